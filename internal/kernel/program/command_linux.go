package program

import (
	"errors"
	"io/fs"
	"os/exec"
	"syscall"
)

// The attributes of processes that package os/exec starts, for packages that make no system calls
// of their own.

// KillGroup makes cmd the first process of a new process group. When the context of cmd ends, all
// processes of the group get SIGKILL, also the helpers that cmd has started. Call KillGroup before
// cmd starts.
func KillGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}

// Chroot makes cmd start in the directory root as its root directory. The process gets SIGKILL when
// the thread that has started cmd ends (prctl(2), PR_SET_PDEATHSIG). Call Chroot before cmd starts.
// The caller needs CAP_SYS_CHROOT.
func Chroot(cmd *exec.Cmd, root string) {
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Pdeathsig: syscall.SIGKILL}
}

// IsBusy reports whether a program could not be started because a process has the program's file
// open for writing (ETXTBSY). A process that was just forked can have the descriptor of another
// thread for a moment: try again.
func IsBusy(err error) bool { return errors.Is(err, syscall.ETXTBSY) }

// IsForeign reports whether a program could not be started because the kernel has nothing to
// execute its format with, or because its interpreter does not exist.
func IsForeign(err error) bool {
	return errors.Is(err, syscall.ENOEXEC) || errors.Is(err, fs.ErrNotExist)
}
