package containers

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// libraryLocks are files below the graph root that the library locks for short times. It waits for
// such a lock without end.
var libraryLocks = [...]string{
	"storage.lock", "overlay-layers/layers.lock", "overlay-images/images.lock", "overlay-containers/containers.lock",
}

// Stopped returns the ID of a process that holds a lock of the library on a store and is stopped,
// by SIGSTOP or a debugger: every process that needs the lock waits. The result is 0 if there is no
// such process, or none in this PID namespace. Stopped may be called outside the namespace of a
// build, and does not wait.
func Stopped(graphRoot string) (pid int) {
	for _, name := range libraryLocks {
		f, err := os.Open(filepath.Join(graphRoot, name))
		if err != nil {
			continue // not there yet
		}
		pid, err := fdfs.LockHolder(f)
		if err := f.Close(); err != nil {
			return 0
		}
		if err == nil && pid != 0 && isStopped(pid) {
			return pid
		}
	}

	return 0
}

// isStopped reads the third field of /proc/PID/stat, behind the name in parentheses (proc(5)).
func isStopped(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	at := strings.LastIndex(string(stat), ") ")
	return err == nil && at >= 0 && strings.ContainsAny(string(stat[at+2:at+3]), "Tt")
}
