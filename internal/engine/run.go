package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"

	"codeberg.org/rbuild/rbuild/internal/bounded"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/internal/runner"
	"codeberg.org/rbuild/rbuild/internal/source/sshagent"
	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// Bounds of files that are read into memory, in bytes.
const (
	maxSecret  = 500 << 10 // as BuildKit has it
	maxSeccomp = 1 << 20   // docker's own profile has 20 kB
)

// maxDevices bounds the devices that are bound into each RUN.
const maxDevices = 256

// openRun opens the files, secrets and agents of RUN. The files stay open for the life of the process.
func (e *Engine) openRun(s spec.Run, o *runner.Options) (err error) {
	for _, w := range s.Warnings {
		logrus.Warn(w)
	}
	if s.Stdin {
		if o.Stdin, err = stepInput(e.Stdin); err != nil {
			return fmt.Errorf("%s: %w", s.StdinFrom, err)
		}
	}

	for _, v := range s.Volumes {
		volume, err := openVolume(v)
		if err != nil {
			return fmt.Errorf("%s: %w", v.From, err)
		}
		o.Volumes = append(o.Volumes, volume)
	}

	o.Secrets = map[string][]byte{}
	for _, secret := range s.Secrets {
		if o.Secrets[secret.ID], err = readSecret(secret, e.Env); err != nil {
			return fmt.Errorf("%s: %w", secret.From, err)
		}
	}

	o.SSH = map[string]*sshagent.Agent{}
	for _, agent := range s.Agents {
		if o.SSH[agent.ID], err = sshagent.Open(agent.Paths...); err != nil {
			return fmt.Errorf("%s: %w", agent.From, err)
		}
	}
	return nil
}

func openVolume(s spec.Volume) (v runner.Volume, err error) {
	v = runner.Volume{Text: s.Text, Dest: s.Dest, ReadOnly: s.ReadOnly, Overlay: s.Overlay, Options: s.Options}
	if v.Source, err = openPath(s.Path); err != nil { // without waiting for the writer of a pipe
		return v, err
	}
	info, err := v.Source.Stat()
	if err != nil {
		return v, err
	}
	if s.Overlay && !info.IsDir() {
		return v, errors.New("option O needs a directory")
	}
	return v, nil
}

// readSecret reads a secret. No error holds a part of the value.
func readSecret(s spec.Secret, env spec.Lookup) ([]byte, error) {
	file := s.File
	variable := s.Variable
	if s.Guess {
		if _, ok := env(s.ID); ok {
			variable = s.ID
		} else {
			file = s.ID
		}
	}

	if variable == "" {
		return readBounded(file, maxSecret, "it")
	}

	value, ok := env(variable)
	if !ok {
		return nil, fmt.Errorf("the environment has no variable %s", variable)
	}
	if len(value) > maxSecret {
		return nil, fmt.Errorf("it has more than %d bytes", maxSecret)
	}
	return []byte(value), nil
}

// readBounded reads a file of at most limit bytes. The file may be a pipe. what names the file in the error of a larger one.
func readBounded(name string, limit int64, what string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return bounded.ReadAll(f, limit, what)
}

// openSecurity opens the seccomp profile and the devices, and checks the facts that only the builder knows.
func openSecurity(s *spec.Build, o *runner.Options, state *userns.State) (err error) {
	security := s.Security
	if len(security.Unmask) > 0 && !state.Rootless() {
		return fmt.Errorf("%s: rbuild runs as root, and by what is hidden RUN would be root of the machine; "+
			"run it as an ordinary user", security.From.Unmask)
	}
	if err := checkIDs(security, state); err != nil {
		return err
	}

	if security.AppArmor != "" {
		if err := sandbox.CheckAppArmor(security.AppArmor); err != nil {
			return fmt.Errorf("%s: %w", security.From.AppArmor, err)
		}
	}

	if security.SeccompFile.Path != "" {
		if err := readProfile(security.SeccompFile.Path, &o.Security); err != nil {
			return fmt.Errorf("%s: %w", security.SeccompFile.From, err)
		}
	}

	o.Devices, err = openDevices(security.Devices)
	return err
}

// readProfile reads and checks a seccomp profile.
func readProfile(name string, c *runner.Security) (err error) {
	if c.Seccomp, err = readBounded(name, maxSeccomp, "the profile"); err != nil {
		return err
	}
	return c.Check()
}

// checkIDs refuses IDs that the builder does not have.
func checkIDs(s spec.Security, state *userns.State) error {
	if s.HostIDs && !state.Rootless() {
		return fmt.Errorf("%s: rbuild runs as root, and RUN has a user namespace of its own all the same",
			s.From.HostIDs)
	}
	if err := checkRanges(s.From.UIDs, s.UIDs, state.UIDMap); err != nil {
		return err
	}
	return checkRanges(s.From.GIDs, s.GIDs, state.GIDMap)
}

func checkRanges(from string, want []sandbox.IDRange, have []userns.IDMap) error {
	for _, r := range want {
		var n uint64
		var ranges []string
		for _, m := range have {
			n += spec.CommonIDs(r, sandbox.IDRange{First: m.Inside, Count: m.Size})
			ranges = append(ranges, fmt.Sprintf("%d-%d", m.Inside, uint64(m.Inside)+uint64(m.Size)-1))
		}
		if n < uint64(r.Count) {
			return fmt.Errorf("%s %d:%d:%d: the builder has only the ids %s", from, r.First, r.First, r.Count,
				strings.Join(ranges, ", "))
		}
	}
	return nil
}

// openDevices pins the devices. They stay open for the life of the process.
func openDevices(list []spec.Device) (out []runner.Device, err error) {
	for _, d := range list {
		found, err := openDevice(d)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.From, err)
		}
		for _, f := range found {
			if slices.ContainsFunc(out, func(o runner.Device) bool { return o.Dest == f.Dest }) {
				return nil, fmt.Errorf("%s: there is another device at %s already", d.From, f.Dest)
			}
			out = append(out, f)
		}
	}

	if len(out) > maxDevices {
		return nil, fmt.Errorf("%s: %d devices are more than %d", list[len(list)-1].From, len(out), maxDevices)
	}
	return out, nil
}

// openDevice finds the device, links followed, or the devices in the directory, links not followed. A device that the user
// may not open is bound all the same: the step that opens it fails, with the kernel's reason.
func openDevice(d spec.Device) ([]runner.Device, error) {
	file, err := openPath(d.Path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}

	switch {
	case info.IsDir():
		return openDevicesBelow(d)
	case info.Mode()&fs.ModeDevice == 0:
		return nil, errors.New("it is no device")
	case inEveryDev(d.Dest) && d.Path == d.Dest:
		return nil, nil
	case inEveryDev(d.Dest):
		return nil, fmt.Errorf("RUN has a %s of its own", d.Dest)
	}
	return []runner.Device{{Source: file, Path: d.Path, Dest: d.Dest}}, nil
}

// inEveryDev reports whether every RUN has a file of that path in /dev.
func inEveryDev(dest string) bool {
	names := []string{
		"null", "zero", "full", "random", "urandom", "tty", "ptmx", "fd", "stdin", "stdout", "stderr",
		"core",
	}
	name, ok := strings.CutPrefix(dest, "/dev/")
	return ok && slices.Contains(names, name)
}

// openDevicesBelow finds all devices below a directory.
func openDevicesBelow(d spec.Device) (out []runner.Device, err error) {
	root, err := os.OpenRoot(d.Path)
	if err != nil {
		return nil, err
	}
	defer root.Close()

	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		dest := path.Join(d.Dest, name)
		if err != nil || entry.Type()&fs.ModeDevice == 0 || inEveryDev(dest) {
			return err
		}

		file, err := root.OpenFile(name, fdfs.PathOnly|fdfs.NoFollow, 0)
		if err != nil {
			return err
		}
		info, err := file.Stat()
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeDevice == 0 {
			return fmt.Errorf("%s is no device any more", name)
		}

		out = append(out, runner.Device{Source: file, Path: path.Join(d.Path, name), Dest: dest})
		if len(out) > maxDevices {
			return fmt.Errorf("there are more than %d devices in it", maxDevices)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, errors.New("there is no device in it")
	}
	return out, nil
}

// openPath finds a file without opening its content: the file may be a pipe or a device.
func openPath(path string) (*os.File, error) { return os.OpenFile(path, fdfs.PathOnly, 0) }

func descriptorPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
