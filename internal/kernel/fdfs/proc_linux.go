package fdfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ProcSelf returns the directory of this process below /proc for other processes to use, "/proc/PID". The pid is not
// that of getpid(2) where /proc was mounted for an outer PID namespace.
func ProcSelf() (string, error) {
	var buf [32]byte
	n, err := unix.Readlink("/proc/self", buf[:])
	if err != nil {
		return "", &os.PathError{Op: "reading", Path: "/proc/self", Err: err}
	}
	return "/proc/" + string(buf[:n]), nil
}

// Ancestry returns the names below /proc of this process and of those that it descends from, this one first, as far as
// /proc shows them and as far as they live.
func Ancestry() ([]string, error) {
	dir, err := ProcSelf()
	if err != nil {
		return nil, err
	}

	var pids []string
	for pid := strings.TrimPrefix(dir, "/proc/"); pid != "0"; {
		parent, err := parentOf(pid)
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH):
			return pids, nil // it has ended, and what it started has another parent by now
		case err != nil:
			return nil, err
		}
		pids = append(pids, pid)
		pid = parent
	}

	return pids, nil
}

// parentOf returns the name of a process's parent below /proc, "0" if it is not visible there (proc(5)).
func parentOf(pid string) (string, error) {
	text, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if parent, ok := strings.CutPrefix(line, "PPid:"); ok {
			return strings.TrimSpace(parent), nil
		}
	}
	return "", fmt.Errorf("/proc/%s/status names no parent", pid)
}
