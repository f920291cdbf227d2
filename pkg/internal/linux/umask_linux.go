package linux

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// WithUmask runs fn in a thread of its own that has this umask. A process that fn starts inherits it; the umask of the
// other threads stays as it is (unshare(2), CLONE_FS).
func WithUmask(mask int, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			done <- os.NewSyscallError("unshare", err)
			return
		}
		unix.Umask(mask)
		done <- fn()
	}()
	return <-done
}
