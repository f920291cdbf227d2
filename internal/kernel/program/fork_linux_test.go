package program_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/program"
)

func TestProgramString(t *testing.T) {
	var p program.Program
	fd, end := p.Reg(), p.Label()
	p.Do("opening a file", unix.SYS_OPENAT2, unix.AT_FDCWD, "/x\n", 0).Into(fd).Tolerate(unix.ENOENT).Else(end)
	p.Do("reading", unix.SYS_READ, fd, []byte("12345"), 5).Then(end)
	p.Fail("never", unix.EIO)
	p.Mark(end)
	p.Do("executing", unix.SYS_EXECVE, "/bin/true", []string{"true", "a b"}, []string(nil))
	want := `   0  r3 = openat2(-100, "/x\n", 0) unless [no such file or directory] else L1  # opening a file
   1  read(r3, <5 bytes>, 5) then L1  # reading
   2  fail input/output error  # never
L1:
   3  execve("/bin/true", ["true" "a b"], [])  # executing
`

	if got := p.String(); got != want {
		t.Error(cmp.Diff(want, got))
	}
}

func TestProgramRun(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	var p program.Program
	fd, other, found := p.Reg(), p.Reg(), p.Label()
	p.Do("opening nothing", unix.SYS_OPENAT, unix.AT_FDCWD, dir+"/none", 0, 0).Into(other).Tolerate(unix.EIO, unix.ENOENT)
	p.Do("creating the file", unix.SYS_OPENAT, unix.AT_FDCWD, file, unix.O_CREAT|unix.O_RDWR, 0o600).Into(fd).Then(found)
	p.Fail("jumped over", unix.EIO)
	p.Mark(found)
	p.Do("writing", unix.SYS_WRITE, fd, []byte("hello"), 5)
	buf := new(uint32)
	p.Do("reading back", unix.SYS_PREAD64, fd, program.Pointer(buf), 4, 1)
	p.Check("checking", buf, 0xffff, 'e'|'l'<<8, unix.EILSEQ)
	p.Do("opening a directory of none", unix.SYS_OPENAT, unix.AT_FDCWD, file+"/x", 0, 0).Tolerate(unix.ENOENT)
	err := p.Run()
	p.Close()
	var f *program.Failure
	if !errors.As(err, &f) || f.What != "opening a directory of none" || !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("got %v", err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "hello" {
		t.Errorf("got %q, %v", text, err)
	}
}

func TestProgramCheckFails(t *testing.T) {
	var p program.Program
	p.Check("comparing", new(uint32), 1, 1, unix.EILSEQ)
	if err := p.Run(); err == nil || err.Error() != "comparing: "+unix.EILSEQ.Error() {
		t.Errorf("got %v", err)
	}
}

// command is a program that executes a shell command.
func command(script string) *program.Program {
	p := new(program.Program)
	p.Do("unblocking signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, make([]byte, 8), 0, 8)
	for range 3 { // become 0, 1 and 2: nothing is inherited
		p.Do("opening /dev/null", unix.SYS_OPENAT, unix.AT_FDCWD, "/dev/null", unix.O_RDWR, 0)
	}
	p.Do("closing", unix.SYS_CLOSE_RANGE, 3, int(^uint32(0)), unix.CLOSE_RANGE_CLOEXEC)
	p.Do("executing nothing", unix.SYS_EXECVE, "/none", []string{"none"}, []string{}).Tolerate(unix.ENOENT).Note()
	p.Do("executing sh", unix.SYS_EXECVE, "/bin/sh", []string{"sh", "-c", script}, []string{"A=B"})
	return p
}

func TestStart(t *testing.T) {
	tests := []struct {
		script string
		code   int
		signal syscall.Signal
	}{
		{script: "exit 0"},
		{script: `test "$A" = B || exit 9; exit 200`, code: 200},
		{script: "kill -TERM $$", code: -1, signal: unix.SIGTERM},
		{script: `test "$(ls /proc/self/fd | wc -l)" = 4 && exit 4`, code: 4}, // and ls's own
	}

	for _, tc := range tests {
		child, err := command(tc.script).Start(0)
		if err != nil {
			t.Fatal(err)
		}
		if len(child.Notes) != 1 || child.Notes[0].Error() != "executing nothing: no such file or directory" {
			t.Errorf("notes: %v", child.Notes)
		}
		state, err := child.Wait()
		if err != nil || state.ExitCode != tc.code || state.Signal != tc.signal {
			t.Errorf("%s: %+v, %v", tc.script, state, err)
		}
		if err := child.Signal(unix.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("signal after the end: %v", err)
		}
	}
}

func TestStartFails(t *testing.T) {
	p := new(program.Program)
	p.Sync("waiting")
	p.Do("entering a directory", unix.SYS_CHDIR, "/none")
	_, err := p.Start(0, func(*program.Child) error { return nil })
	if err == nil || err.Error() != "entering a directory: no such file or directory" {
		t.Errorf("got %v", err)
	}

	p = new(program.Program)
	p.Sync("waiting")
	p.Do("never reached", unix.SYS_CHDIR, "/none")
	broken := errors.New("broken")
	if _, err := p.Start(0, func(*program.Child) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if _, err := new(program.Program).Start(0, func(*program.Child) error { return nil }); err == nil {
		t.Error("a step that nothing waits for was taken")
	}
	if _, err := new(program.Program).Start(unix.CLONE_FS | unix.CLONE_NEWNS); !errors.Is(err, unix.EINVAL) {
		t.Errorf("impossible flags: %v", err)
	}
}

func TestSyncTakesTurns(t *testing.T) {
	q := new(program.Program)
	q.Sync("first")
	q.Sync("second")
	var order []string
	step := func(name string) func(*program.Child) error {
		return func(c *program.Child) error {
			dir, err := c.ProcDir()
			if err == nil {
				_, err = os.Stat(dir)
			}
			order = append(order, name)
			return err
		}
	}

	q.Do("executing", unix.SYS_EXECVE, "/bin/sh", []string{"sh", "-c", "exit 3"}, []string{})
	child, err := q.Start(0, step("first"), step("second"))
	if err != nil {
		t.Fatal(err)
	}
	state, err := child.Wait()
	if err != nil || state.ExitCode != 3 || strings.Join(order, " ") != "first second" {
		t.Errorf("%+v, %v, %v", state, err, order)
	}
}

// Many at once, with allocation and collection going on around them.
func TestStartConcurrently(t *testing.T) {
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for k := range 10 {
				_ = make([]byte, 1<<20)
				code := (i*10 + k) % 100
				child, err := command("exit " + string(rune('0'+code/10)) + string(rune('0'+code%10))).Start(0)
				if err != nil {
					t.Error(err)
					return
				}
				if state, err := child.Wait(); err != nil || state.ExitCode != code {
					t.Errorf("%+v, %v", state, err)
				}
			}
		})
	}

	all.Wait()
}

// group is a cgroup below that of the test.
type group struct {
	dir   *os.File // nil: no child is born there
	path  string
	added []int
}

func (g *group) Dir() *os.File { return g.dir }

func (g *group) Enter() (func() error, error) { return nil, errors.ErrUnsupported }

func (g *group) Add(pid int) error {
	g.added = append(g.added, pid)
	return os.WriteFile(filepath.Join(g.path, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
}

// newGroup makes a cgroup of version 2 where the user may do that.
func newGroup(t *testing.T) *group {
	t.Helper()
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	_, own, _ := strings.Cut(string(text), "0::")
	own, _, _ = strings.Cut(own, "\n")
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		dir := filepath.Join(mount, own)
		if _, err := os.Stat(filepath.Join(dir, "cgroup.kill")); err != nil || own == "/" {
			continue
		}

		path, err := os.MkdirTemp(dir, "test-") //nolint:usetesting // a cgroup, not a temporary directory
		if err != nil {
			break
		}

		t.Cleanup(func() {
			if err := os.Remove(path); err != nil {
				t.Error(err)
			}
		})
		return &group{path: path}
	}

	t.Skipf("needs a delegated cgroup of version 2: %s is none", own)

	return nil
}

// TestInCgroup looks at where a child is when it executes its first step: born there, or moved.
func TestInCgroup(t *testing.T) {
	for _, born := range []bool{true, false} {
		g := newGroup(t)
		if born {
			dir, err := os.OpenFile(g.path, unix.O_PATH|unix.O_DIRECTORY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Close()
			g.dir = dir
		}

		p := new(program.Program)
		p.Sync("waiting")
		p.Do("unblocking signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, make([]byte, 8), 0, 8)
		p.Do("executing", unix.SYS_EXECVE, "/bin/sh", []string{"sh", "-c", `grep -q "/` + filepath.Base(g.path) + `$" /proc/self/cgroup`}, []string{})
		p.InCgroup(g)
		var there bool
		child, err := p.Start(0, func(c *program.Child) error {
			text, err := os.ReadFile("/proc/" + strconv.Itoa(c.Pid) + "/cgroup")
			there = strings.Contains(string(text), filepath.Base(g.path))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		state, err := child.Wait()
		if err != nil || state.ExitCode != 0 || !there {
			t.Errorf("born there: %v: %+v, %v; in the first step it was there: %v", born, state, err, there)
		}
		if born != (len(g.added) == 0) {
			t.Errorf("born there: %v, and yet added: %v", born, g.added)
		}
	}

	p := new(program.Program)
	p.InCgroup(&group{})
	if _, err := p.Start(0); err == nil {
		t.Error("a program that never waits cannot be moved in time")
	}
}
