package program

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// callName returns the name of a system call that sandboxes and overlays use, and the number of any
// other.
func callName(nr uintptr) string {
	if name, ok := callNames[nr]; ok {
		return name
	}
	return "syscall " + strconv.Itoa(int(nr))
}

var callNames = map[uintptr]string{
	unix.SYS_CAPSET:         "capset",
	unix.SYS_CHDIR:          "chdir",
	unix.SYS_CHROOT:         "chroot",
	unix.SYS_CLOSE:          "close",
	unix.SYS_CLOSE_RANGE:    "close_range",
	unix.SYS_DUP3:           "dup3",
	unix.SYS_EXECVE:         "execve",
	unix.SYS_FCHDIR:         "fchdir",
	unix.SYS_FCNTL:          "fcntl",
	unix.SYS_FSCONFIG:       "fsconfig",
	unix.SYS_FSMOUNT:        "fsmount",
	unix.SYS_FSOPEN:         "fsopen",
	unix.SYS_IOCTL:          "ioctl",
	unix.SYS_MKDIRAT:        "mkdirat",
	unix.SYS_MOUNT:          "mount",
	unix.SYS_MOUNT_SETATTR:  "mount_setattr",
	unix.SYS_MOVE_MOUNT:     "move_mount",
	unix.SYS_OPENAT:         "openat2",
	unix.SYS_OPENAT2:        "openat2",
	unix.SYS_OPEN_TREE:      "open_tree",
	unix.SYS_PIVOT_ROOT:     "pivot_root",
	unix.SYS_PRCTL:          "prctl",
	unix.SYS_PRLIMIT64:      "prlimit64",
	unix.SYS_READ:           "read",
	unix.SYS_RT_SIGACTION:   "rt_sigaction",
	unix.SYS_RT_SIGPROCMASK: "rt_sigprocmask",
	unix.SYS_SECCOMP:        "seccomp",
	unix.SYS_SETGROUPS:      "setgroups",
	unix.SYS_SETHOSTNAME:    "sethostname",
	unix.SYS_SETRESGID:      "setresgid",
	unix.SYS_SETRESUID:      "setresuid",
	unix.SYS_SETSID:         "setsid",
	unix.SYS_SOCKET:         "socket",
	unix.SYS_STATX:          "statx",
	unix.SYS_SYMLINKAT:      "symlinkat",
	unix.SYS_UMASK:          "umask",
	unix.SYS_UMOUNT2:        "umount2",
}
