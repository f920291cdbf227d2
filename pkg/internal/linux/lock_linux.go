package linux

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// TryLock takes a write lock on the whole file if nobody else has one, and says whether it did. The lock is one of the
// open file description (fcntl(2), F_OFD_SETLK, Linux 3.15): closing f gives it back. It conflicts with the locks of
// processes (F_SETLK) too, which containers/storage takes.
// f must be open for writing.
func TryLock(f *os.File) (bool, error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: unix.SEEK_SET}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	return err == nil, os.NewSyscallError("fcntl", err)
}
