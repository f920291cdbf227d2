package program

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// callName names the system calls that programs are made of; another is shown by its number.
func callName(nr uintptr) string {
	switch nr {
	case unix.SYS_CAPSET:
		return "capset"
	case unix.SYS_CHDIR:
		return "chdir"
	case unix.SYS_CHROOT:
		return "chroot"
	case unix.SYS_CLOSE:
		return "close"
	case unix.SYS_CLOSE_RANGE:
		return "close_range"
	case unix.SYS_DUP3:
		return "dup3"
	case unix.SYS_EXECVE:
		return "execve"
	case unix.SYS_FCHDIR:
		return "fchdir"
	case unix.SYS_FCNTL:
		return "fcntl"
	case unix.SYS_IOCTL:
		return "ioctl"
	case unix.SYS_MKDIRAT:
		return "mkdirat"
	case unix.SYS_OPENAT, unix.SYS_OPENAT2:
		return "openat2"
	case unix.SYS_PRCTL:
		return "prctl"
	case unix.SYS_PRLIMIT64:
		return "prlimit64"
	case unix.SYS_READ:
		return "read"
	}

	if name, ok := mountCalls()[nr]; ok {
		return name
	}

	return "syscall " + strconv.Itoa(int(nr))
}

func mountCalls() map[uintptr]string {
	return map[uintptr]string{
		unix.SYS_FSCONFIG:       "fsconfig",
		unix.SYS_FSMOUNT:        "fsmount",
		unix.SYS_FSOPEN:         "fsopen",
		unix.SYS_MOUNT:          "mount",
		unix.SYS_MOUNT_SETATTR:  "mount_setattr",
		unix.SYS_MOVE_MOUNT:     "move_mount",
		unix.SYS_OPEN_TREE:      "open_tree",
		unix.SYS_PIVOT_ROOT:     "pivot_root",
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
}
