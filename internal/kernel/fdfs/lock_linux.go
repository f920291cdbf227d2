package fdfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// TryLock takes a write lock on the whole file if nobody else has one, and says whether it did. The lock is one of the
// open file description (fcntl(2), F_OFD_SETLK, Linux 3.15): closing f gives it back. It conflicts with the locks of
// processes (F_SETLK) too, which containers/storage takes.
// f must be open for writing.
func TryLock(f *os.File) (bool, error) { return tryLock(f, unix.F_WRLCK) }

// TryShare takes a read lock, which others may have too, or makes a write lock that f has one.
func TryShare(f *os.File) (bool, error) { return tryLock(f, unix.F_RDLCK) }

// TryFlock takes the lock of flock(2) on f if nobody else has the lock, and reports whether it did. Closing f gives the
// lock back. It is for directories, which cannot be opened for writing. It does not conflict with TryLock.
func TryFlock(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, os.NewSyscallError("flock", err)
}

// Unlock gives the lock of f back.
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
	return err == nil, os.NewSyscallError("fcntl", err)
}

// LockFileAt opens the file name of dir for locking and makes it, mode 0600, if it is not there. A symbolic link is ELOOP.
func LockFileAt(dir *os.File, name string) (*os.File, error) {
	return openAt(dir, name, unix.O_RDWR|unix.O_CREAT, 0o600)
}

// LockHolder is the process that has a lock of fcntl(2) on f that keeps others from writing, as numbered in this PID
// namespace; 0: there is none, or it cannot be told: the holder is in a PID namespace that this process does not see, or the
// lock is one of an open file description.
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
