package fdfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// SocketPair returns the two ends of a stream socket, socketpair(2). ours and theirs are the names of the ends in errors.
// The files are not polled: a read blocks a thread, and Close does not interrupt it.
func SocketPair(ours, theirs string) (*os.File, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), ours), os.NewFile(uintptr(fds[1]), theirs), nil
}

// CloseWrite ends the stream that the other end of the socket f reads, shutdown(2). f can still be read.
func CloseWrite(f *os.File) error {
	return os.NewSyscallError("shutdown", unix.Shutdown(int(f.Fd()), unix.SHUT_WR))
}

// Shutdown ends both streams of the socket f, in all processes that have the same end of the socket.
func Shutdown(f *os.File) error {
	return os.NewSyscallError("shutdown", unix.Shutdown(int(f.Fd()), unix.SHUT_RDWR))
}

// Inherited returns the open file that this process has as descriptor fd since its start. Programs that this process
// starts do not inherit the descriptor further. name is the name of the file in errors.
func Inherited(fd int, name string) *os.File {
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), name)
}
