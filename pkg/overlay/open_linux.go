package overlay

import (
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/program"
)

// Detach makes the mount and returns its root: a descriptor of a mount that is attached nowhere (move_mount(2) can
// attach it, in this or another mount namespace). If nobody does, it goes when the descriptor is closed.
//
// The layers' descriptors belong to mounts of this process's mount namespace. A process in another one could not use
// them as layers (EINVAL from clone_private_mount), which is why the mount of a process to be is made here.
func Detach(m Mount) (*os.File, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}

	var p program.Program
	defer p.Close()

	var root program.Reg
	run := p.Run
	if m.isClassic() {
		attached.Lock()
		defer attached.Unlock()

		var err error
		if root, err = m.classic(&p); err != nil {
			return nil, err
		}
		run = func() error {
			// A child that is forked in between would have the overlay on top of its root, and could not leave that.
			syscall.ForkLock.RLock()
			defer syscall.ForkLock.RUnlock()
			return runAside(&p)
		}
	} else {
		root = m.program(&p)
	}

	if err := run(); err != nil {
		return nil, err
	}

	fd, err := unix.FcntlInt(p.Value(root), unix.F_DUPFD_CLOEXEC, 3)
	runtime.KeepAlive(&p)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}

	return os.NewFile(uintptr(fd), "/"), nil
}

// attached guards the one place where mount(2) attaches an overlay before it is detached again: on top of this
// process's root.
var attached sync.Mutex

// Open is Detach for looking and writing: it returns the root directory, open for reading. The mount goes when that
// and all that was opened below it are closed.
func Open(m Mount) (*os.File, error) {
	mount, err := Detach(m)
	if err != nil {
		return nil, err
	}
	defer mount.Close()
	fd, err := unix.Openat(int(mount.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "opening an overlay", Path: m.Lowers[0], Err: err}
	}
	return os.NewFile(uintptr(fd), "/"), nil
}
