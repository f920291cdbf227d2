package userns

import (
	"errors"
	"syscall"
)

// allThreads makes a system call with two arguments on all threads. Programs with cgo cannot do
// that (ENOTSUP); they make the call on the calling thread only. Released binaries have no cgo,
// race tests have it.
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
