package fdfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// Memfd returns an empty file in memory that nothing else can open, close-on-exec (memfd_create(2), Linux 3.17).
// Its pages go when it is closed. The name shows in /proc/self/fd only.
func Memfd(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
