package probe

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"codeberg.org/rbuild/rbuild/internal/doctor"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
)

// network runs a process with the network of RUN --network private, with files below dir.
func network(ctx context.Context, o Options, dir string) doctor.Finding {
	f := doctor.Finding{ID: doctor.Network, Status: doctor.Degraded}
	helper, err := sandbox.FindNetworkHelper(o.Path)
	if err != nil {
		f.Summary, f.Detail = "--network private is refused: neither pasta nor slirp4netns is installed", err.Error()
		f.Fix = "run as root: apt-get install passt"
		return f
	}

	if err := tryNetwork(ctx, o, dir, helper); err != nil {
		f.Summary = "--network private does not work: " + err.Error()
		f.Fix = "fix the cause that " + helper + " names, or build without --network private"
		if why, fix := tunDevice(); fix != "" {
			f.Detail, f.Fix = why, fix
		}
		return f
	}

	return doctor.Finding{ID: doctor.Network, Status: doctor.OK, Summary: "--network private works, with " + helper}
}

// tryNetwork runs a process that does nothing in a private network.
func tryNetwork(ctx context.Context, o Options, dir, helper string) (err error) {
	base, err := os.MkdirTemp(dir, Prefix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(base)) }()

	config, err := trialConfig(filepath.Join(base, "network"), o.Trusted)
	if err != nil {
		return err
	}

	config.Network, config.NetworkHelper = sandbox.Private, helper
	process, err := sandbox.Start(config) //nolint:contextcheck // its start is bounded
	if err != nil {
		return err
	}
	return wait(ctx, process)
}

// tunDevice reports why the helper of a private network cannot open the tun device, and the remedy.
// Both are empty if the device can be opened.
func tunDevice() (why, fix string) {
	const device = "/dev/net/tun"
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrPermission) {
		return err.Error(), "run as root: chmod 666 " + device + ", as udev does on most machines"
	}
	if err != nil {
		return err.Error(), "run as root: modprobe tun; give a container the device " + device
	}
	f.Close() // nothing was written
	return "", ""
}
