package overlay

import (
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/program"
)

// Detach makes the mount and returns a descriptor of its root (O_PATH). The mount is attached
// nowhere. move_mount(2) can attach the mount, also in another mount namespace. A mount that was
// not attached goes away when the caller closes the descriptor.
//
// Call Detach in the mount namespace in which the lower directories were opened: in another mount
// namespace the kernel rejects their descriptors (EINVAL from clone_private_mount). Detach is safe
// for concurrent use.
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
			// A child that is forked in the meantime would have the overlay on top of its root for
			// ever.
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

// attached guards the root of this process, on top of which classic mounts an overlay for a moment.
var attached sync.Mutex

// Open makes the mount and returns its root directory, open for reading. The mount goes away when
// the root directory and all files that were opened below it are closed. Open is safe for
// concurrent use.
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
