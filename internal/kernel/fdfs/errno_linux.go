package fdfs

import (
	"errors"

	"golang.org/x/sys/unix"
)

// The error numbers that other packages compare with, or return in a PathError.
const (
	EDQUOT    = unix.EDQUOT
	EEXIST    = unix.EEXIST
	EFBIG     = unix.EFBIG
	EINVAL    = unix.EINVAL
	EISDIR    = unix.EISDIR
	ELOOP     = unix.ELOOP
	ENOENT    = unix.ENOENT
	ENOSPC    = unix.ENOSPC
	ENOTDIR   = unix.ENOTDIR
	ENOTEMPTY = unix.ENOTEMPTY
	EPIPE     = unix.EPIPE
	EROFS     = unix.EROFS
	EXDEV     = unix.EXDEV

	ENAMETOOLONG = unix.ENAMETOOLONG
)

// The flags of open(2) that package os does not have.
const (
	NoFollow    = unix.O_NOFOLLOW // a symbolic link as the last component of the path is ELOOP
	NonBlocking = unix.O_NONBLOCK // opening a fifo does not wait for its other end
	PathOnly    = unix.O_PATH     // the descriptor names the file, and its content is not opened
)

// The signals that a program passes on, ignores, or sends (signal(7)).
const (
	SIGHUP  = unix.SIGHUP
	SIGINT  = unix.SIGINT
	SIGKILL = unix.SIGKILL
	SIGPIPE = unix.SIGPIPE
	SIGQUIT = unix.SIGQUIT
	SIGTERM = unix.SIGTERM
	SIGTTIN = unix.SIGTTIN
)

// IsNotDir reports whether err says that a component of a path is not a directory.
func IsNotDir(err error) bool { return errors.Is(err, unix.ENOTDIR) }

// IsRefused reports whether err says that the kernel, or a filter in front of the kernel, does not
// permit a call.
func IsRefused(err error) bool { return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) }

// NoRoom reports whether err says that the file system, or the user's quota of it, is full.
func NoRoom(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// PathError is an error about name in the form of package os. It is nil if err is nil.
func PathError(op, name string, err error) error { return pathError(op, name, err) }

// CheckName refuses a name that is not one component of a path, such as "", ".." and "a/b".
func CheckName(op, name string) error { return checkName(op, name) }
