package containers

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// libraryLocks are the locks that the library takes for moments, and waits for without end, below the graph root.
var libraryLocks = [...]string{
	"storage.lock", "overlay-layers/layers.lock", "overlay-images/images.lock", "overlay-containers/containers.lock",
}

// Stopped looks for a process that holds one of the library's locks on a store and is stopped (SIGSTOP, a debugger): whoever
// needs the lock waits for it. 0: there is none, or it is out of sight. It may be called anywhere, and waits for nothing.
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
