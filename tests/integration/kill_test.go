package integration

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// defaultKills is the number of builds that a run of all tests kills; hack/chaos/kill.sh asks for more.
const defaultKills = 6

// TestKill kills builds with SIGKILL; the number of them is in KILLS.
func TestKill(t *testing.T) { run(t, "chaos") }

// killbuilds CONTEXT starts builds and kills each at a random moment of the time that a whole one takes: in turn the
// launcher, the builder, or both with all that they started. After each, the next command must leave nothing behind.
func killbuilds(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 1, "killbuilds CONTEXT")
	count := defaultKills
	if text := os.Getenv("KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		ts.Check(err)
		count = n
	}
	start := time.Now()
	output(ts, "rbuild", "bud", "-t", "x", args[0])
	whole := time.Since(start)
	finished := 0
	for i := range count {
		moment := time.Duration(rand.Int64N(int64(whole)))
		if !killOne(ts, args[0], moment, i%3) {
			finished++
		}
		ended(ts, false, nil)
		output(ts, "rbuild", "images")
		storeclean(ts, false, nil)
	}
	ts.Logf("%d builds killed in their first %v; %d had ended before", count-finished, whole.Round(time.Millisecond), finished)
	if count >= 5 && finished > count/2 {
		ts.Fatalf("%d of %d builds ended before they were killed", finished, count)
	}
}

// killOne starts a build, kills it after the delay and reports whether it was still running.
func killOne(ts *testscript.TestScript, context string, delay time.Duration, whom int) bool {
	cmd := exec.Command(ts.Getenv("RBUILD"), "bud", "-t", "x", "--no-cache", context)
	cmd.Env, cmd.Dir = environ(ts), ts.MkAbs(".")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ts.Check(cmd.Start())
	time.Sleep(delay)
	switch whom {
	case 0:
		_ = cmd.Process.Kill()
	case 1:
		for _, pid := range children(cmd.Process.Pid) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	default:
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	return cmd.Wait() != nil
}

// children lists the processes that pid has started.
func children(pid int) []int {
	var out []int
	lists, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	for _, list := range lists {
		data, _ := os.ReadFile(list)
		for f := range strings.FieldsSeq(string(data)) {
			if n, err := strconv.Atoi(f); err == nil {
				out = append(out, n)
			}
		}
	}
	return out
}
