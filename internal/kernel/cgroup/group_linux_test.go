package cgroup

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/lease"
)

// delegated is a directory of cgroups of version 2 that belongs to the user who runs the test, with
// this process in it or below it. hack/test.sh gives one as root, without controllers where the
// machine has version 1 too.
func delegated(t *testing.T) string {
	t.Helper()
	own, err := ownPath()
	if err != nil {
		t.Skip(err)
	}
	for _, mount := range []string{root, root + "/unified"} {
		dir := filepath.Join(mount, own)
		var st unix.Statfs_t
		if own != "/" && unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC && unix.Access(dir, unix.W_OK) == nil {
			return dir
		}
	}

	t.Skipf("needs a delegated cgroup of version 2: %s is none", own)
	return ""
}

// place is a Parent in a directory of its own.
func place(t *testing.T) *Parent {
	t.Helper()
	dir := filepath.Join(delegated(t), fresh())
	p := &Parent{manager: CgroupFS, v2: true, dirs: map[string]string{"": dir}}
	l, err := p.tree.claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	p.leases = []*lease.Lease{l}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left", dir)
		}
	})

	return p
}

// start runs a shell that is born in the group and prints a line when it is there.
func start(t *testing.T, g *Group, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sh", "-c", "cat /proc/self/cgroup | grep ^0; "+script)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(g.Dir().Fd())}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasSuffix(strings.TrimSpace(line), strings.TrimPrefix(g.Dir().Name()[strings.LastIndex(g.Dir().Name(), "/rbuild-"):], "")) {
		t.Errorf("the process is in %q (%v), not in %s", line, err, g.Dir().Name())
	}
	return cmd
}

func TestGroup(t *testing.T) {
	p := place(t)
	g, err := p.New(Limits{})
	if err != nil {
		t.Fatal(err)
	}
	cmd := start(t, g, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if u := g.Usage(); u.CPU <= 0 || u.OOMKills != 0 || u.Read < -1 {
		t.Errorf("used %+v", u)
	}
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	if err := g.Remove(); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

// TestRemoveKills leaves processes behind that ignore all signals that can be ignored, one in a
// cgroup below.
func TestRemoveKills(t *testing.T) {
	for _, kill := range []bool{true, false} {
		p := place(t)
		g, err := p.New(Limits{})
		if err != nil {
			t.Fatal(err)
		}
		cmd := start(t, g, "trap '' TERM INT HUP; sleep 300 & sleep 300 & wait; sleep 300")
		if kill {
			if err := g.Kill(); err != nil {
				t.Error(err)
			}
		} else if err := g.Remove(); err != nil {
			t.Error(err)
		}

		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("the process ended with %v", err)
		}
		if err := g.Remove(); err != nil {
			t.Error(err)
		}
	}
}

// TestReap removes what a dead owner left, and not what a living one has.
func TestReap(t *testing.T) {
	p := place(t)
	alive := p.dirs[""]
	dead := filepath.Join(filepath.Dir(alive), fresh())
	if err := os.MkdirAll(filepath.Join(dead, "run-1"), 0o755); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(filepath.Dir(alive), prefix+"other")
	if err := os.Mkdir(other, 0o755); err != nil {
		t.Fatal(err)
	}
	p.tree.reap(filepath.Dir(alive))
	if err := os.Remove(other); err != nil {
		t.Errorf("what somebody else has named so: %v", err)
	}
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", dead, err)
	}
	if _, err := os.Stat(alive); err != nil {
		t.Error(err)
	}
}

func TestAdd(t *testing.T) {
	p := place(t)
	g, err := p.New(Limits{})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "300")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := g.Add(cmd.Process.Pid); err != nil {
		t.Error(err)
	}
	began := time.Now()
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Errorf("the process was not in the group, and ended after %v", time.Since(began))
	}
}

func TestTraffic(t *testing.T) {
	read, written := traffic("8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n254:16 rbytes=1 wbytes=x\n")
	if read != 11 || written != 20 {
		t.Errorf("read %d, written %d", read, written)
	}
}
