package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestMain makes the test binary a program for the scripts too: "$SELF nouserns COMMAND..." runs a command under a filter that
// forbids user namespaces, as container engines have it by default. A copy of it by the name of attackerName attacks.
func TestMain(m *testing.M) {
	switch {
	case filepath.Base(os.Args[0]) == attackerName:
		attacker(os.Args[1:])
	case len(os.Args) > 2 && os.Args[1] == "nouserns":
		fmt.Fprintln(os.Stderr, "nouserns:", withoutUserNS(os.Args[2:]))
		os.Exit(99)
	default:
		os.Exit(m.Run())
	}
}

// withoutUserNS executes a command whose unshare(2) and clone(2) with CLONE_NEWUSER are refused (EPERM), and which has no
// clone3(2) (ENOSYS), whose flags a filter cannot read.
func withoutUserNS(args []string) error {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	deny := func(errno unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(errno) }
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	jump := func(kind uint16, k uint32, jt, jf uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | kind | unix.BPF_K, K: k, Jt: jt, Jf: jf}
	}
	ret := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	filter := []unix.SockFilter{
		load(0), // seccomp_data.nr
		jump(unix.BPF_JEQ, unix.SYS_CLONE3, 6, 0),
		jump(unix.BPF_JEQ, unix.SYS_UNSHARE, 1, 0),
		jump(unix.BPF_JEQ, unix.SYS_CLONE, 0, 2),
		load(16), // the low half of args[0], on a little-endian machine
		jump(unix.BPF_JSET, unix.CLONE_NEWUSER, 1, 0),
		ret(unix.SECCOMP_RET_ALLOW),
		ret(deny(unix.EPERM)),
		ret(deny(unix.ENOSYS)),
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		return errno
	}
	return syscall.Exec(path, args, os.Environ())
}
