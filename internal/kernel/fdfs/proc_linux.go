package fdfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ProcSelf returns the directory of this process below /proc, "/proc/PID", for use by other
// processes. If /proc was mounted for an outer PID namespace, the PID is not that of getpid(2).
func ProcSelf() (string, error) {
	var buf [32]byte
	n, err := unix.Readlink("/proc/self", buf[:])
	if err != nil {
		return "", &os.PathError{Op: "reading", Path: "/proc/self", Err: err}
	}
	return "/proc/" + string(buf[:n]), nil
}

// Ancestry returns the names below /proc of this process and its ancestors, for example ["42",
// "17", "1"]. It ends at the first ancestor that has ended or that /proc does not show.
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
			return pids, nil // the process has ended, and its children have another parent
		case err != nil:
			return nil, err
		}
		pids = append(pids, pid)
		pid = parent
	}

	return pids, nil
}

// parentOf returns the name below /proc of the parent of a process. It is "0" if /proc does not
// show the parent (proc(5)).
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
