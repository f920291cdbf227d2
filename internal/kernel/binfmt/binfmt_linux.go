// Package binfmt makes the kernel execute programs of other architectures, by way of an emulator, without root.
//
//	e := binfmt.New(os.Getenv("PATH"))
//	defer e.Close()
//	if err := e.Ensure("arm64", scratch); err != nil { ... } // says what to install
//
// What the host has registered is used. It counts only if it works in another root directory, where the emulator's path
// leads nowhere: the kernel must have opened the emulator when it was registered (flag F).
//
// Otherwise the caller, root of a user namespace, mounts a binfmt_misc of that namespace's own and registers an emulator
// that it finds: a qemu-user that is linked statically. A namespace that is nested in it uses that too. It hides the
// host's, and goes when it is closed. Needs Linux 6.7. In the first user namespace nothing is registered.
//
// Whether something works is found out by executing a program of 12 bytes of code that exits.
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

// patience bounds a trial.
const patience = 20 * time.Second

// Emulators are those of one user namespace. Its methods may be called by several goroutines.
type Emulators struct {
	path []string // absolute directories

	mu    sync.Mutex
	root  *os.File         // of the own binfmt_misc; nil: not mounted
	known map[string]error // by architecture
}

// New looks for emulators in the absolute directories of path, separated as in PATH, when one is needed.
func New(path string) *Emulators {
	return &Emulators{path: lookpath.Dirs(path), known: map[string]error{}}
}

// Close takes the own registrations away.
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

// cannot is the error for programs of an architecture.
func cannot(architecture, why, do string) *remedy.Error {
	return &remedy.Error{What: fmt.Sprintf("programs for %s cannot be executed on this machine", architecture), Why: why, Do: do}
}

// Ensure makes programs of an architecture executable, also in another root directory, for this process and those that it
// starts. It finds out once. dir is a directory for scratch on a file system from which programs can be executed. The
// error is a *remedy.Error where it is the host that cannot do it.
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

	err := m.try(ctx, dir)
	if err == nil {
		return nil
	}
	if !errors.Is(err, errNotExecuted) {
		return fmt.Errorf("trying a program for %s: %w", architecture, err)
	}

	program, err := e.find(m)
	if err != nil {
		return cannot(architecture, err.Error(), "install an emulator: apt install qemu-user-static")
	}
	defer program.Close()
	if shared() {
		why := program.Name() + " is not registered, and what root registers is for the whole machine"
		return cannot(architecture, why, "systemctl restart systemd-binfmt")
	}

	if e.root == nil {
		if e.root, err = fdfs.BinfmtMisc(); err != nil {
			why := fmt.Sprintf("%s is not registered, and registering it without root needs Linux 6.7 (%v)", program.Name(), err)
			return cannot(architecture, why, "root can: apt install qemu-user-static, or systemctl restart systemd-binfmt")
		}
	}

	if err := m.register(e.root, architecture, program); err != nil {
		return fmt.Errorf("registering %s: %w", program.Name(), err)
	}
	if err := m.try(ctx, dir); err != nil {
		return cannot(architecture, fmt.Sprintf("%s does not work: %v", program.Name(), err), "")
	}

	return nil
}

// shared tells whether a registration would be one of the first user namespace, which all of the machine has and which
// stays. The number is its inode (include/uapi/linux/nsfs.h).
func shared() bool {
	name, err := os.Readlink("/proc/self/ns/user")
	return err != nil || name == "user:[4026531837]"
}

// find opens an emulator that needs no file of its own root directory.
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
			f.Close() // was only read
		}
	}

	if dynamic != "" {
		return nil, fmt.Errorf("no emulator is registered, and %s is not linked statically", dynamic)
	}
	return nil, fmt.Errorf("no emulator is registered, and there is no %s in PATH", names[0])
}

// isStatic tells whether f is an executable program that asks for no dynamic loader.
func isStatic(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return false
	}

	program, err := elf.NewFile(f)
	if err != nil {
		return false
	}

	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP {
			return false
		}
	}

	return true
}

// errNotExecuted: the kernel finds nothing that could execute the program.
var errNotExecuted = errors.New("not executed")

// try executes a program of the architecture with dir/probe-* as its root directory.
func (m machine) try(ctx context.Context, dir string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()

	root, err := os.MkdirTemp(dir, "probe-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	if err := os.WriteFile(filepath.Join(root, "probe"), m.program(), 0o700); err != nil { //nolint:gosec // it is executed
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

// register tells the kernel to execute programs of the machine by way of program, which it opens now.
func (m machine) register(root *os.File, name string, program *os.File) error {
	// P: the program gets its own argument 0; O: as a descriptor; C: with the rights of the file; F: opened now.
	line := fmt.Sprintf(":rbuild-%s:M::%s:%s:/proc/self/fd/%d:POCF", name, escape(m.magic()), escape(m.mask()), program.Fd())
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d/register", root.Fd()), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}

func escape(data []byte) string {
	var b strings.Builder
	for _, c := range data {
		fmt.Fprintf(&b, `\x%02x`, c)
	}
	return b.String()
}
