// Package binfmt makes the kernel execute programs of other architectures by an emulator, without
// root.
//
//	e := binfmt.New("/usr/bin:/bin")
//	defer e.Close()
//	err := e.Ensure(ctx, "arm64", "/var/tmp") // a *remedy.Error says what to install
//
// If the host has a registered emulator that works, the package does nothing. The registration must
// work in another root directory, where the path of the emulator leads nowhere: the kernel must
// have opened the emulator at its registration (flag F).
//
// Otherwise the caller, who is root of a user namespace, gets a binfmt_misc of that namespace, and
// the package registers a statically linked qemu-user from PATH there. Namespaces nested in the
// namespace use the registration too. The mount hides the registrations of the host, and Close
// removes the mount. This needs Linux 6.7. In the first user namespace nothing is registered,
// because a registration would apply to the whole machine.
//
// The package finds out whether programs can be executed by executing a program of about 12 bytes
// of code that exits.
//
// Source: Documentation/admin-guide/binfmt-misc.rst of Linux.
package binfmt

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/program"
	"codeberg.org/rbuild/rbuild/internal/lookpath"
	"codeberg.org/rbuild/rbuild/internal/remedy"
)

// patience bounds the execution of a trial program.
const patience = 20 * time.Second

// Emulators are the emulators of one user namespace. The methods may be called by several
// goroutines.
type Emulators struct {
	path []string // absolute directories

	mu    sync.Mutex
	root  *os.File         // root directory of the namespace's binfmt_misc; nil: not mounted
	known map[string]error // results of Ensure, by architecture
}

// New returns Emulators that are searched, when needed, in the absolute directories of path, which
// is a list as in PATH. The caller closes them.
func New(path string) *Emulators {
	return &Emulators{path: lookpath.Dirs(path), known: map[string]error{}}
}

// Close removes the registrations of the user namespace.
func (e *Emulators) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.root == nil {
		return nil
	}

	root := e.root
	e.root = nil
	return root.Close()
}

// cannot is the error for an architecture whose programs cannot be executed.
func cannot(architecture, why, do string) *remedy.Error {
	return &remedy.Error{
		What: fmt.Sprintf("programs for %s cannot be executed on this machine", architecture),
		Why:  why,
		Do:   do,
	}
}

// Ensure makes programs of an architecture, for example "arm64", executable for this process and
// its descendants, also in another root directory. The result is remembered, unless ctx has ended.
// dir is a directory for temporary files on a file system without the option noexec. If the host
// lacks something, the error is a *remedy.Error.
func (e *Emulators) Ensure(ctx context.Context, architecture, dir string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err, ok := e.known[architecture]; ok {
		return err
	}
	err := e.ensure(ctx, architecture, dir)
	if ctx.Err() == nil {
		e.known[architecture] = err
	}
	return err
}

func (e *Emulators) ensure(ctx context.Context, architecture, dir string) error {
	m, ok := machines()[architecture]
	if !ok {
		return cannot(architecture, "no emulator of it is known", "")
	}

	if err := m.try(ctx, dir); !errors.Is(err, errNotExecuted) {
		if err != nil {
			return fmt.Errorf("trying a program for %s: %w", architecture, err)
		}
		return nil
	}

	emulator, err := e.find(m)
	if err != nil {
		return cannot(architecture, err.Error(), "install an emulator: apt install qemu-user-static")
	}
	defer emulator.Close()

	if shared() {
		why := emulator.Name() + " is not registered, and what root registers is for the whole machine"
		return cannot(architecture, why, "systemctl restart systemd-binfmt")
	}

	if e.root == nil {
		if e.root, err = fdfs.BinfmtMisc(); err != nil {
			why := fmt.Sprintf("%s is not registered, and registering it without root needs Linux 6.7 (%v)",
				emulator.Name(), err)
			return cannot(architecture, why,
				"root can: apt install qemu-user-static, or systemctl restart systemd-binfmt")
		}
	}

	if err := m.register(e.root, architecture, emulator); err != nil {
		return fmt.Errorf("registering %s: %w", emulator.Name(), err)
	}
	if err := m.try(ctx, dir); err != nil {
		return cannot(architecture, fmt.Sprintf("%s does not work: %v", emulator.Name(), err), "")
	}

	return nil
}

// shared reports whether this process is in the first user namespace. A registration there applies
// to the whole machine, and remains. The number is the inode of that namespace
// (include/uapi/linux/nsfs.h).
func shared() bool {
	name, err := os.Readlink("/proc/self/ns/user")
	return err != nil || name == "user:[4026531837]"
}

// find opens an emulator in PATH that is linked statically. Another root directory has no files for
// a dynamic loader.
func (e *Emulators) find(m machine) (*os.File, error) {
	names := []string{"qemu-" + m.qemu + "-static", "qemu-" + m.qemu}
	dynamic := ""
	for _, dir := range e.path {
		for _, name := range names {
			f, err := os.Open(filepath.Join(dir, name))
			if err != nil {
				continue
			}
			if isStatic(f) {
				return f, nil
			}
			dynamic = f.Name()
			f.Close() // nothing was written
		}
	}

	if dynamic != "" {
		return nil, fmt.Errorf("no emulator is registered, and %s is not linked statically", dynamic)
	}
	return nil, fmt.Errorf("no emulator is registered, and there is no %s in PATH", names[0])
}

// isStatic reports whether f is an executable ELF program without a dynamic loader (segment
// PT_INTERP).
func isStatic(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return false
	}

	parsed, err := elf.NewFile(f)
	if err != nil {
		return false
	}

	for _, p := range parsed.Progs {
		if p.Type == elf.PT_INTERP {
			return false
		}
	}

	return true
}

// errNotExecuted says that the kernel has nothing that could execute the program.
var errNotExecuted = errors.New("not executed")

// try executes a program of the architecture in a root directory dir/probe-*.
func (m machine) try(ctx context.Context, dir string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()

	root, err := os.MkdirTemp(dir, "probe-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	probe := filepath.Join(root, "probe")
	if err := os.WriteFile(probe, m.program(), 0o700); err != nil { //nolint:gosec // it is executed
		return err
	}

	for {
		cmd := exec.CommandContext(ctx, "/probe")
		cmd.Env = []string{}
		program.Chroot(cmd, root)
		err = cmd.Run()
		if !program.IsBusy(err) {
			break
		}
		time.Sleep(time.Millisecond)
	}

	if program.IsForeign(err) {
		return fmt.Errorf("%w: %w", errNotExecuted, err)
	}

	return err
}

// register makes the kernel execute programs of the machine by the emulator. root is the root
// directory of a binfmt_misc.
func (m machine) register(root *os.File, name string, emulator *os.File) error {
	// P: the emulator gets argument 0 of the program; O: it gets a descriptor of the program; C:
	// the process has the credentials of the program; F: the kernel opens the emulator now.
	line := fmt.Sprintf(":rbuild-%s:M::%s:%s:/proc/self/fd/%d:POCF", name, escape(m.magic()), escape(m.mask()),
		emulator.Fd())
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d/register", root.Fd()), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}

// escape writes bytes as binfmt_misc reads them, for example \x7f\x45.
func escape(data []byte) string {
	var b strings.Builder
	for _, c := range data {
		fmt.Fprintf(&b, `\x%02x`, c)
	}
	return b.String()
}
