package overlay

import (
	"fmt"
	"os"
	"runtime"

	"codeberg.org/rbuild/rbuild/pkg/internal/linux"
	"golang.org/x/sys/unix"
)

// Open mounts m without attaching it to any path, and returns its root directory, open for
// reading. There is nothing to unmount: the mount goes when the directory and all that was opened
// below it are closed.
func Open(m Mount) (*os.File, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	if m.isClassic() {
		return openAside(m)
	}
	var p linux.Program
	root, err := m.Program(&p)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	if err := p.Run(); err != nil {
		return nil, err
	}
	return openRoot(int(p.Value(root)), ".", m)
}

// openAside mounts in a mount namespace that ends with its thread; the descriptor keeps the mount.
func openAside(m Mount) (*os.File, error) {
	type result struct {
		root *os.File
		err  error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		var p linux.Program
		var r result
		if r.err = unix.Unshare(unix.CLONE_NEWNS); r.err == nil {
			r.err = m.classicAt(&p, "/")
		}
		if r.err == nil {
			r.err = p.Run()
		}
		if r.err == nil {
			r.root, r.err = openRoot(unix.AT_FDCWD, "/..", m)
		}
		done <- r
	}()
	r := <-done
	return r.root, r.err
}

func openRoot(dir int, path string, m Mount) (*os.File, error) {
	fd, err := unix.Openat(dir, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the overlay of %d layers: %w", len(m.Lowers), err)
	}
	return os.NewFile(uintptr(fd), "/"), nil
}
