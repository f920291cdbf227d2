package sandbox_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
)

// reach tries what a process may do to those whose directories it sees in /proc and that are not
// its own.
func reach() {
	own := map[string]bool{}
	if self, err := os.Readlink("/proc/self"); err == nil {
		own[self] = true
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	tried := 0
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if own[filepath.Base(dir)] {
			continue
		}

		tried++
		for _, name := range []string{"root", "cwd", "exe", "fd", "ns/user", "map_files"} {
			if _, err := os.Stat(dir + "/" + name + "/."); err == nil {
				fmt.Println("REACHED", name)
			}
			if _, err := os.Readlink(dir + "/" + name); err == nil {
				fmt.Println("REACHED the name of", name)
			}
		}

		for _, name := range []string{"environ", "mem", "maps", "auxv", "syscall", "stack", "root/etc/passwd"} {
			if f, err := os.Open(dir + "/" + name); err == nil {
				if n, err := f.Read(make([]byte, 100)); n > 0 && err == nil {
					fmt.Println("REACHED", name)
				}
			}
		}

		if fds, err := os.ReadDir(dir + "/fd"); err == nil {
			fmt.Println("REACHED descriptors", len(fds))
		}
		for _, name := range []string{"oom_score_adj", "comm", "timerslack_ns", "uid_map", "attr/current"} {
			if os.WriteFile(dir+"/"+name, []byte("0"), 0) == nil {
				fmt.Println("REACHED by writing", name)
			}
		}

		if unix.Kill(pid, 0) == nil && pid != 1 && pid != os.Getpid() {
			fmt.Println("REACHED by a signal")
		}
		if unix.PtraceAttach(pid) == nil {
			fmt.Println("REACHED by ptrace")
		}
	}

	fmt.Println("tried", tried)
}

// Where the /proc of a RUN is the builder's, because no other may be mounted, its processes are
// seen there and nothing else of them: the user namespace of the RUN is nested in theirs
// (PTRACE_MODE_READ of ptrace(2)).
func TestCannotReachThroughProc(t *testing.T) {
	box := newBox(t)
	withSelf(t, box, "self")
	c := box.config("")
	c.Spec.Process.Args = []string{"/self"}
	c.Spec.Process.Env = []string{roleVar + "=reach"}
	c.Proc = sandbox.ProcBind
	for _, insecure := range []bool{false, true} {
		if insecure {
			all, err := sandbox.MergeCapabilities(nil, []string{"ALL"}, nil)
			check(t, err)
			c.Spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
		}
		out, _ := run(t, c)
		if strings.Contains(out, "REACHED") || !strings.Contains(out, "tried ") || strings.Contains(out, "tried 0\n") {
			t.Errorf("all capabilities: %v: %s", insecure, out)
		}
	}
}
