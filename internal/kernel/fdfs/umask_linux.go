package fdfs

import (
	"errors"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// WithUmask runs fn in a thread of its own with this umask, for example 0o022. A process that fn
// starts inherits the umask. The umask of other threads does not change (unshare(2), CLONE_FS). If
// a seccomp filter refuses every unshare, as in pods, all threads have the umask while fn runs.
func WithUmask(mask int, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_FS)
		switch {
		case errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS):
			done <- withCommonUmask(mask, fn)
		case err != nil:
			done <- os.NewSyscallError("unshare", err)
		default:
			unix.Umask(mask)
			done <- fn()
		}
	}()

	return <-done
}

// commonUmask is locked while all threads have the umask of a WithUmask.
var commonUmask sync.Mutex

func withCommonUmask(mask int, fn func() error) error {
	commonUmask.Lock()
	defer commonUmask.Unlock()

	old := unix.Umask(mask)
	defer unix.Umask(old)
	return fn()
}
