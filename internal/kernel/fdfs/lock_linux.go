package fdfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// TryLock takes a write lock on the whole file f, which must be open for writing. It reports false
// if somebody else has a lock. The lock belongs to the open file description (fcntl(2),
// F_OFD_SETLK, Linux 3.15): closing f gives the lock back. It also conflicts with the locks of
// processes (F_SETLK), which containers/storage takes.
func TryLock(f *os.File) (bool, error) { return tryLock(f, unix.F_WRLCK) }

// TryShare takes a read lock, which others may have at the same time. A write lock that f has
// becomes a read lock. It reports false if somebody else has a write lock.
func TryShare(f *os.File) (bool, error) { return tryLock(f, unix.F_RDLCK) }

// TryFlock takes the lock of flock(2) on f if nobody else has the lock, and reports whether it did.
// Closing f gives the lock back. It is for directories, which cannot be opened for writing. It does
// not conflict with TryLock.
func TryFlock(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, os.NewSyscallError("flock", err)
	}
	return true, nil
}

// Unlock gives the lock of f back, and f stays open.
func Unlock(f *os.File) error {
	_, err := tryLock(f, unix.F_UNLCK)
	return err
}

func tryLock(f *os.File, kind int16) (bool, error) {
	lock := unix.Flock_t{Type: kind, Whence: unix.SEEK_SET}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	if err != nil {
		return false, os.NewSyscallError("fcntl", err)
	}
	return true, nil
}

// LockFileAt opens the file name of dir for locking. If there is no such file, it is made with mode
// 0600. A symbolic link is ELOOP.
func LockFileAt(dir *os.File, name string) (*os.File, error) {
	return openAt(dir, name, unix.O_RDWR|unix.O_CREAT, 0o600)
}

// LockHolder returns the number, in this PID namespace, of the process whose lock of fcntl(2) on f
// keeps others from writing. It is 0 if there is no such lock, if the process is in a PID namespace
// that this process does not see, and if the lock belongs to an open file description.
func LockHolder(f *os.File) (pid int, err error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: unix.SEEK_SET}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return 0, os.NewSyscallError("fcntl", err)
	}
	if lock.Type == unix.F_UNLCK || lock.Pid < 0 {
		return 0, nil
	}
	return int(lock.Pid), nil
}
