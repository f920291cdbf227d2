package fdfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// KernelRelease returns the release of the running kernel, for example "6.1.0-13-amd64" (uname(2)).
func KernelRelease() (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", os.NewSyscallError("uname", err)
	}
	return unix.ByteSliceToString(name.Release[:]), nil
}

// CheckWritable returns an error if this process may not write to the file or directory at path
// (access(2)).
func CheckWritable(path string) error {
	return pathError("writing to", path, retry0(func() error { return unix.Access(path, unix.W_OK) }))
}

// Duplicate returns a second descriptor, with a number from 3 on, of the open file f. name is the
// name of the returned file in errors. A write to descriptor 1 or 2 whose reader is gone ends a Go
// program by SIGPIPE; a write to the duplicate is EPIPE.
func Duplicate(f *os.File, name string) (*os.File, error) {
	fd, err := retry(func() (int, error) { return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3) })
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
