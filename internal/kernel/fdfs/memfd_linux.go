package fdfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// Memfd returns an empty file in memory that no other process can open (memfd_create(2), Linux
// 3.17). Closing the last descriptor frees the memory. The name is shown in /proc/self/fd and in
// errors only.
func Memfd(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
