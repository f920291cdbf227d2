package userns

import (
	"errors"
	"syscall"
)

// allThreads makes a system call with two arguments on all threads. A binary that was linked with cgo knows no such
// thing (ENOTSUP); there it is made on the calling thread. Released binaries have no cgo; race tests do.
//
//go:uintptrescapes
func allThreads(trap, a1, a2 uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall(trap, a1, a2, 0)
	if errors.Is(errno, syscall.ENOTSUP) {
		_, _, errno = syscall.RawSyscall(trap, a1, a2, 0)
	}
	if errno != 0 {
		return errno
	}
	return nil
}
