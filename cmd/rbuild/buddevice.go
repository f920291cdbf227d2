package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/runner"
)

// maxDevices bounds how many devices are bound into each RUN.
const maxDevices = 256

// device is a --device.
type device struct{ text, source, dest string }

// parseDevice reads HOST-DEVICE[:PATH][:PERMISSIONS]. There is no devices cgroup in a user namespace that could hold a step
// to fewer permissions than the device's mode grants, and no leave to make device nodes: rw and rwm mean the same, and
// anything less is refused.
func parseDevice(text string) (device, error) {
	refuse := func(why string) (device, error) { return device{}, fmt.Errorf("--device %q: %s", text, why) }
	parts := strings.Split(text, ":")
	d := device{text: text, source: parts[0], dest: parts[0]}
	rest := parts[1:]
	if n := len(rest); n > 0 && rest[n-1] != "" && strings.Trim(rest[n-1], "rwm") == "" {
		if permissions := rest[n-1]; !strings.Contains(permissions, "r") || !strings.Contains(permissions, "w") {
			return refuse("permissions less than rw cannot be enforced without root: what the mode of the device grants to the user, RUN has")
		}
		rest = rest[:n-1]
	}

	if len(rest) == 1 {
		d.dest = rest[0]
	}
	switch {
	case !path.IsAbs(d.source) && strings.Contains(d.source, "=") && strings.Contains(d.source, "/"):
		return refuse("devices of CDI (VENDOR/CLASS=NAME) are not supported: name the device files")
	case len(rest) > 1, !path.IsAbs(d.source), !path.IsAbs(d.dest), strings.ContainsRune(text, 0):
		return refuse("want /HOST-DEVICE[:/PATH][:rwm]")
	}

	d.source, d.dest = path.Clean(d.source), path.Clean(d.dest)
	for _, own := range []string{"/", "/proc", "/sys", "/dev/pts", "/dev/shm", "/dev/mqueue"} {
		if d.dest == own || own != "/" && strings.HasPrefix(d.dest, own+"/") {
			return refuse(fmt.Sprintf("RUN has something else at %s: choose another path with %s:/PATH", own, d.source))
		}
	}

	return d, nil
}

// openDevices pins the devices; they stay open for the life of the process.
func openDevices(list []string) (out []runner.Device, err error) {
	for _, text := range list {
		d, err := parseDevice(text)
		if err != nil {
			return nil, err
		}

		found, err := d.open()
		if err != nil {
			return nil, fmt.Errorf("--device %q: %w", text, err)
		}
		for _, one := range found {
			if slices.ContainsFunc(out, func(o runner.Device) bool { return o.Dest == one.Dest }) {
				return nil, fmt.Errorf("--device %q: there is another device at %s already", text, one.Dest)
			}
			out = append(out, one)
		}
	}

	if len(out) > maxDevices {
		return nil, fmt.Errorf("--device: %d devices are more than %d", len(out), maxDevices)
	}
	return out, nil
}

// open finds the device, links followed, or those in the directory, links not followed.
func (d device) open() ([]runner.Device, error) {
	file, err := openPath(d.source)
	if err != nil {
		return nil, err
	}

	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return d.openBelow()
	}
	if info.Mode()&fs.ModeDevice == 0 {
		return nil, errors.New("it is no device")
	}
	if standard(d.dest) {
		if d.source == d.dest {
			return nil, nil // every RUN has it
		}
		return nil, fmt.Errorf("RUN has a %s of its own", d.dest)
	}

	// A device that the user may not open is bound all the same: the step that opens it fails, with the kernel's reason.
	return []runner.Device{{Source: file, Path: d.source, Dest: d.dest}}, nil
}

// standard tells whether something of that name is in every /dev.
func standard(dest string) bool {
	names := []string{"null", "zero", "full", "random", "urandom", "tty", "ptmx", "fd", "stdin", "stdout", "stderr", "core"}
	name, ok := strings.CutPrefix(dest, "/dev/")
	return ok && slices.Contains(names, name)
}

// openBelow finds the devices in a directory and those below it.
func (d device) openBelow() (out []runner.Device, err error) {
	root, err := os.OpenRoot(d.source)
	if err != nil {
		return nil, err
	}
	defer root.Close()

	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		dest := path.Join(d.dest, name)
		if err != nil || entry.Type()&fs.ModeDevice == 0 || standard(dest) {
			return err
		}

		file, err := root.OpenFile(name, unix.O_PATH|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}

		info, err := file.Stat()
		if err == nil && info.Mode()&fs.ModeDevice == 0 {
			err = fmt.Errorf("%s is no device any more", name)
		}
		if out = append(out, runner.Device{Source: file, Path: path.Join(d.source, name), Dest: dest}); len(out) > maxDevices {
			err = fmt.Errorf("there are more than %d devices in it", maxDevices)
		}
		return err
	})

	if err == nil && len(out) == 0 {
		err = errors.New("there is no device in it")
	}

	return out, err
}
