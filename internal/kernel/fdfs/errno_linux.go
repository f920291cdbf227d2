package fdfs

import "golang.org/x/sys/unix"

// The errors of system calls that a Dir of another package gives too, in a PathError.
const (
	ENOENT    = unix.ENOENT
	EEXIST    = unix.EEXIST
	ENOTDIR   = unix.ENOTDIR
	EISDIR    = unix.EISDIR
	ENOTEMPTY = unix.ENOTEMPTY
	ELOOP     = unix.ELOOP
	EINVAL    = unix.EINVAL
	EXDEV     = unix.EXDEV
	EFBIG     = unix.EFBIG

	ENAMETOOLONG = unix.ENAMETOOLONG
)

// PathError is an error about name, as package os has it; nil for a nil error.
func PathError(op, name string, err error) error { return pathError(op, name, err) }

// CheckName refuses what is not one component of a path.
func CheckName(op, name string) error { return checkName(op, name) }
