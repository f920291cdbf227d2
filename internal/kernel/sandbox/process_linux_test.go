package sandbox_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
)

func TestExecutesPrograms(t *testing.T) {
	box := newBox(t,
		"noexec=#!/bin/sh\n", "noshebang=exit 3\n", "lost=#!/bin/nothing\n", "elf=\x7fELF", "dir/x=", "loop->loop",
		"other/hello=#!/bin/sh\necho other", "self->/proc/self/exe", "viaself=#!/proc/self/fd/3\n")
	check(t, os.Chmod(box.path("image/noexec"), 0o644))
	tests := []struct {
		name string
		args []string
		path string
		want string
		code int // of the *ExecError
	}{
		{name: "absolute", args: []string{"/bin/echo", "a b", "c"}, want: "a b c\n"},
		{name: "looked up", args: []string{"echo", "x"}, want: "x\n"},
		{name: "later in PATH", args: []string{"hello"}, path: "/none:/noexec:/dir:/other:/bin", want: "other\n"},
		{name: "default PATH", args: []string{"echo", "x"}, path: "-", want: "x\n"},
		{name: "relative", args: []string{"bin/echo", "x"}, want: "x\n"},
		{name: "relative PATH", args: []string{"hello"}, path: "other:/bin", want: "other\n"},
		{name: "not in PATH", args: []string{"nothing"}, code: 127},
		{name: "no such file", args: []string{"/no/such"}, code: 127},
		{name: "empty PATH is the directory", args: []string{"noexec"}, path: "", code: 126},
		{name: "not executable", args: []string{"/noexec"}, code: 126},
		{name: "a directory", args: []string{"/dir"}, code: 126},
		{name: "no format", args: []string{"/elf"}, code: 126},
		{name: "lost interpreter", args: []string{"/lost"}, code: 127},
		{name: "loop of links", args: []string{"/loop"}, code: 126},
		{name: "the builder itself", args: []string{"/proc/self/exe"}, code: 126},
		{name: "the builder by a link", args: []string{"/self"}, code: 126},
		{name: "what the builder has open", args: []string{"/proc/self/fd/3/bin/sh"}, code: 126},
	}

	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			c := box.config("")
			c.Spec.Process.Args = tc.args
			switch tc.path {
			case "-":
				c.Spec.Process.Env = nil
			case "":
				c.Spec.Process.Env = []string{"PATH=/bin"}
				if tc.args[0] == "noexec" {
					c.Spec.Process.Env = []string{"PATH="}
				}
			default:
				c.Spec.Process.Env = []string{"PATH=" + tc.path}
			}

			out, _, err := tryRun(t, c)
			code := 0
			if exec, ok := errors.AsType[*sandbox.ExecError](err); ok {
				code = exec.ExitCode()
				t.Log(err)
			} else {
				check(t, err)
			}

			if code != tc.code || out != tc.want {
				t.Errorf("got exit code %d and %q, want %d and %q", code, out, tc.code, tc.want)
			}
		})
	}
}

// Root's capabilities must be gone before the program is executed as another user.
func TestUserCannotExecuteWhatIsRoots(t *testing.T) {
	box := newBox(t, "secret/tool=#!/bin/sh\necho ran\n")
	c := box.config("")
	c.Spec.Process.Args = []string{"/secret/tool"}
	c.Spec.Process.User.UID, c.Spec.Process.User.GID = 1000, 1000
	for _, path := range []string{"secret", "secret/tool"} {
		check(t, os.Chmod(filepath.Join(box.image, path), 0o700))
		if out, _, err := tryRun(t, c); !errors.Is(err, unix.EACCES) {
			t.Errorf("%s of mode 0700: %q, %v", path, out, err)
		}
		check(t, os.Chmod(filepath.Join(box.image, path), 0o755))
	}

	if out, _ := run(t, c); out != "ran\n" {
		t.Errorf("got %q", out)
	}
}

func TestStates(t *testing.T) {
	box := newBox(t)
	tests := []struct {
		script string
		code   int
		signal syscall.Signal
	}{
		{"exit 0", 0, 0},
		{"exit 42", 42, 0},
		{"exit 255", 255, 0},
		{"sh -c 'kill -9 $$'; exit $?", 137, 0},
	}

	for _, tc := range tests {
		_, state := run(t, box.config(tc.script))
		if state.ExitCode != tc.code || state.Signal != tc.signal {
			t.Errorf("%s: got %d and signal %d", tc.script, state.ExitCode, state.Signal)
		}
	}
}

func TestKill(t *testing.T) {
	box := newBox(t)
	p, err := sandbox.Start(box.config("sleep 1000"))
	check(t, err)
	begin := time.Now()
	check(t, p.Kill())
	state, err := p.Wait()
	check(t, err)
	if state.Signal != unix.SIGKILL || state.ExitCode != -1 {
		t.Errorf("got %+v", state)
	}
	check(t, p.Kill())
	if err := p.Signal(unix.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal after the end: %v", err)
	}
	if d := time.Since(begin); d > time.Minute {
		t.Errorf("took %v", d)
	}
}

func TestSignalReachesAHandler(t *testing.T) {
	box := newBox(t)
	r, w, err := os.Pipe()
	check(t, err)
	c := box.config("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done")
	c.Stdout = w
	p, err := sandbox.Start(c)
	check(t, err)
	check(t, w.Close())
	buf := make([]byte, 16)
	_, err = r.Read(buf)
	check(t, err)
	check(t, p.Signal(unix.SIGTERM))
	state, err := p.Wait()
	check(t, err)
	if state.ExitCode != 7 {
		t.Errorf("got %+v", state)
	}
}

// A daemon that keeps the output open must neither delay Wait nor survive it.
func TestDaemonIsKilled(t *testing.T) {
	box := newBox(t)
	r, w, err := os.Pipe()
	check(t, err)
	c := box.config("(trap '' HUP TERM; sleep 1000) & echo started")
	c.Stdout = w
	p, err := sandbox.Start(c)
	check(t, err)
	check(t, w.Close())
	begin := time.Now()
	_, err = p.Wait()
	check(t, err)
	buf := make([]byte, 64)
	n, err := r.Read(buf)
	check(t, err)
	if m, err := r.Read(buf[n:]); m != 0 || err == nil {
		t.Errorf("the output goes on: %q, %v", buf[n:n+m], err)
	}
	if d := time.Since(begin); d > time.Minute {
		t.Errorf("took %v", d)
	}
}

func TestEnvironmentAndStreams(t *testing.T) {
	t.Setenv("SECRET", "of the builder")
	box := newBox(t)
	c := box.config("env; umask; pwd; readlink /proc/self/cwd; cat; readlink /proc/1/fd/0")
	c.Spec.Process.Env = []string{"PATH=/bin", "A=b c"}
	c.Spec.Process.Cwd = "/bin"
	out, _ := run(t, c)

	// SHLVL and PWD are the shell's.
	want := "SHLVL=1\nA=b c\nPATH=/bin\nPWD=/bin\n0022\n/bin\n/bin\n/dev/null\n"
	if out != want {
		t.Error(cmp.Diff(want, out))
	}
}

func TestNoDescriptorLeaks(t *testing.T) {
	box := newBox(t)
	leak, err := os.Open("/")
	check(t, err)
	defer leak.Close()

	_, _, errno := unix.Syscall(unix.SYS_FCNTL, leak.Fd(), unix.F_SETFD, 0) // not close-on-exec
	if errno != 0 {
		t.Fatal(errno)
	}
	c := box.config("")
	c.Spec.Process.Args = []string{"/bin/ls", "/proc/self/fd"}
	out, _ := run(t, c)
	if out != "0\n1\n2\n3\n" { // 3 is the directory that ls reads
		t.Errorf("open descriptors: %q", out)
	}
}

func status(t *testing.T, text, key string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("no %s in %q", key, text)
	return ""
}

func TestCredentials(t *testing.T) {
	box := newBox(t)
	const docker = "00000000a80425fb"
	const none = "0000000000000000"
	tests := []struct {
		name   string
		change func(*sandbox.Config)
		want   map[string]string
	}{
		{
			name:   "root",
			change: func(*sandbox.Config) {},
			want: map[string]string{
				"Uid": "0\t0\t0\t0", "Gid": "0\t0\t0\t0", "Groups": "", "NoNewPrivs": "0", "Seccomp": "0",
				"CapInh": none, "CapPrm": docker, "CapEff": docker, "CapBnd": docker, "CapAmb": none,
				"SigBlk": none, "SigIgn": none,
			},
		},
		{
			name: "user",
			change: func(c *sandbox.Config) {
				c.Spec.Process.User.UID, c.Spec.Process.User.GID = 1000, 1001
				c.Spec.Process.User.AdditionalGids = []uint32{5, 65534}
				c.Spec.Process.NoNewPrivileges = true
			},
			want: map[string]string{
				"Uid": "1000\t1000\t1000\t1000", "Gid": "1001\t1001\t1001\t1001", "Groups": "5 65534", "NoNewPrivs": "1",
				"CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": docker, "CapAmb": none,
			},
		},
		{
			name:   "no capabilities",
			change: func(c *sandbox.Config) { c.Spec.Process.Capabilities = nil },
			want:   map[string]string{"CapPrm": none, "CapEff": none, "CapBnd": none},
		},
		{
			name:   "chroot instead of pivot_root",
			change: func(c *sandbox.Config) { c.Chroot = true },
			want:   map[string]string{"CapBnd": "00000000a80025fb", "CapEff": "00000000a80025fb"},
		},
		{
			name: "seccomp",
			change: func(c *sandbox.Config) {
				profile, err := sandbox.DefaultSeccomp(sandbox.DefaultCapabilities())
				check(t, err)
				c.Spec.Linux.Seccomp = profile
			},
			want: map[string]string{"Seccomp": "2", "CapEff": docker, "NoNewPrivs": "0"},
		},
		{
			name: "seccomp, user, no_new_privs",
			change: func(c *sandbox.Config) {
				profile, err := sandbox.DefaultSeccomp(nil)
				check(t, err)
				c.Filter, err = sandbox.NewFilter(profile)
				check(t, err)
				c.Spec.Process.User.UID = 33
				c.Spec.Process.NoNewPrivileges = true
			},
			want: map[string]string{"Seccomp": "2", "CapEff": none, "NoNewPrivs": "1"},
		},
	}

	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			c := box.config("")
			c.Spec.Process.Args = []string{"/bin/cat", "/proc/self/status"}
			tc.change(&c)
			out, _ := run(t, c)
			for key, want := range tc.want {
				if got := status(t, out, key); got != want {
					t.Errorf("%s is %q, want %q", key, got, want)
				}
			}
		})
	}
}

func TestSeccompRefusesNamespaces(t *testing.T) {
	box := newBox(t)
	const script = "unshare -U true && echo made; mount -t tmpfs none /bin; echo $?"
	c := box.config(script)
	out, _ := run(t, c)
	if !strings.Contains(out, "made") {
		t.Errorf("without a filter a user namespace can be had, or this test shows nothing: %q", out)
	}
	profile, err := sandbox.DefaultSeccomp(sandbox.DefaultCapabilities())
	check(t, err)
	c.Spec.Linux.Seccomp = profile
	out, _ = run(t, c)
	if strings.Contains(out, "made") || !strings.Contains(out, "Operation not permitted") {
		t.Errorf("with the filter: %q", out)
	}
}

func TestCannotReachTheBuilder(t *testing.T) {
	box := newBox(t)
	c := box.config("kill -0 " + strconv.Itoa(os.Getpid()+1) + " && echo reached; ls -d /proc/[0-9]* | wc -w; kill -9 -1; id -u")
	out, _ := run(t, c)
	if strings.Contains(out, "reached") {
		t.Errorf("got %q", out)
	}
	t.Log(out)
}

func TestWorkingDirectory(t *testing.T) {
	box := newBox(t, "link->/bin", "file=", "up->/proc/self/fd/5")
	tests := []struct{ cwd, want, fails string }{
		{cwd: "/bin", want: "/bin\n"},
		{cwd: "/link", want: "/bin\n"},
		{cwd: "/none", fails: "entering the working directory /none: no such file or directory"},
		{cwd: "/file", fails: "not a directory"},
		{cwd: "/proc/self/fd/3", fails: "too many levels"},
		{cwd: "/up", fails: "too many levels"},
		{cwd: "/proc/self/cwd", fails: "too many levels"},
	}

	for _, tc := range tests {
		c := box.config("pwd")
		c.Spec.Process.Cwd = tc.cwd
		c.Spec.Process.Args = []string{"/bin/pwd"}
		out, _, err := tryRun(t, c)
		if out != tc.want || (err != nil) != (tc.fails != "") || err != nil && !strings.Contains(err.Error(), tc.fails) {
			t.Errorf("%s: got %q, %v", tc.cwd, out, err)
		}
	}
}

func TestNamesOfTheMachine(t *testing.T) {
	box := newBox(t)
	c := box.config("cat /proc/sys/kernel/hostname; echo $$; cat /proc/self/setgroups")
	c.Spec.Hostname = "box"
	out, _ := run(t, c)
	if out != "box\n1\nallow\n" {
		t.Errorf("got %q", out)
	}
}

func TestRefusesWhatItDoesNotDo(t *testing.T) {
	box := newBox(t)
	tests := map[string]func(*sandbox.Config){
		"label":          func(c *sandbox.Config) { c.Spec.Process.SelinuxLabel = "x" },
		"AppArmor":       func(c *sandbox.Config) { c.Spec.Process.ApparmorProfile = "none" },
		"not absolute":   func(c *sandbox.Config) { c.Spec.Process.Cwd = "x" },
		"no program":     func(c *sandbox.Config) { c.Spec.Process.Args = nil },
		"NUL byte":       func(c *sandbox.Config) { c.Spec.Process.Env = []string{"a\x00b"} },
		"ambient":        func(c *sandbox.Config) { c.Spec.Process.Capabilities.Ambient = []string{"CAP_CHOWN"} },
		"unknown cap":    func(c *sandbox.Config) { c.Spec.Process.Capabilities.Bounding = []string{"CAP_X"} },
		"unknown rlimit": func(c *sandbox.Config) { c.Spec.Process.Rlimits[0].Type = "RLIMIT_X" },
		"unknown option": func(c *sandbox.Config) { c.Spec.Mounts[0].Options = []string{"shared"} },
		"network helper": func(c *sandbox.Config) { c.Network = sandbox.Private },
		"root mount":     func(c *sandbox.Config) { c.Spec.Mounts[0].Destination = "/" },
		"file system":    func(c *sandbox.Config) { c.Spec.Mounts[0].Type = "ext4" },
		"below /proc":    func(c *sandbox.Config) { c.Spec.Mounts[2].Destination = "/proc/sys" },
		"no upper":       func(c *sandbox.Config) { c.Root.Upper, c.Root.Work = "", "" },
		"no stubs":       func(c *sandbox.Config) { c.Stubs = "" },
	}

	for name, change := range tests {
		c := box.config("echo ran")
		change(&c)
		if out, _, err := tryRun(t, c); err == nil {
			t.Errorf("%s: ran: %q", name, out)
		}
	}
}

// withSelf puts the test binary into the image; it must be static.
func withSelf(t *testing.T, box *box, name string) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/exe")
	check(t, err)
	if bytes.Contains(text, []byte("/ld-linux")) {
		t.Skip("the test binary is not static")
	}
	check(t, os.WriteFile(filepath.Join(box.image, name), text, 0o755))
}

// The overlay belongs to the builder's user namespace; set-user-ID must still count in the nested
// one.
func TestSetuidProgram(t *testing.T) {
	box := newBox(t)
	withSelf(t, box, "self")
	check(t, unix.Chmod(filepath.Join(box.image, "self"), 0o4755))
	c := box.config("")
	c.Spec.Process.Args = []string{"/self"}
	c.Spec.Process.Env = []string{roleVar + "=euid"}
	c.Spec.Process.User.UID = 1000
	if out, _ := run(t, c); out != "1000 0\n" {
		t.Errorf("got %q", out)
	}
	c.Spec.Process.NoNewPrivileges = true
	if out, _ := run(t, c); out != "1000 1000\n" {
		t.Errorf("with no_new_privs: got %q", out)
	}
}

// An interpreter /proc/self/exe is the builder's program (CVE-2019-5736). It must not be writable
// to what it then runs as.
func TestCannotRewriteTheBuilder(t *testing.T) {
	box := newBox(t, "attack=#!/proc/self/exe\n")
	withSelf(t, box, "unused")
	c := box.config("")
	c.Spec.Process.Args = []string{"/attack"}
	c.Spec.Process.Env = []string{roleVar + "=rewrite"}
	out, _, err := tryRun(t, c)
	t.Logf("%q, %v", out, err)
	if err == nil && (!strings.Contains(out, "opening the builder") || strings.Contains(out, "<nil>")) {
		t.Errorf("got %q", out)
	}
}

// A builder that is killed takes its processes along.
func TestDiesWithTheBuilder(t *testing.T) {
	box := newBox(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{roleVar + "=" + box.dir}
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	check(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the builder says %q", line)
	}
	check(t, unix.Kill(pid, 0))
	check(t, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		// The orphan is ours to reap only if we are an init; a zombie counts as dead.
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(text), ") Z ") {
			_, err := unix.Wait4(pid, nil, 0, nil)
			if err != nil && !errors.Is(err, unix.ECHILD) {
				t.Error(err)
			}
			return
		}
		if time.Since(begin) > time.Minute {
			t.Fatalf("still there: %s", text)
		}
	}
}

// Processes at the same time share the stubs, and neither success nor failure leaves anything
// open or running in the builder.
func TestManyAtOnceLeaveNothing(t *testing.T) {
	box := newBox(t, "etc/resolv.conf->/run/none")
	check(t, os.WriteFile(box.path("resolv"), nil, 0o644))
	open := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		check(t, err)
		return len(names)
	}

	_, _ = run(t, box.config("true")) // the poller's own descriptors
	files, routines := open(), runtime.NumGoroutine()
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			c := box.config("echo ok")
			c.Root.Upper, c.Root.Work = box.path(fmt.Sprint("upper", i)), box.path(fmt.Sprint("work", i))
			c.Root.Classic = i%4 != 0
			if err := mkdirs(c.Root.Upper, c.Root.Work); err != nil {
				t.Error(err)
			}
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/etc/resolv.conf", Type: "bind", Source: box.path("resolv")})
			switch i % 3 {
			case 1:
				c.Spec.Process.Cwd = "/none"
			case 2:
				c.Spec.Process.Args[0] = "/none"
			}

			p, err := sandbox.Start(c)
			if (err != nil) != (i%3 != 0) {
				t.Errorf("%d: %v", i, err)
			}
			if err == nil {
				if state, err := p.Wait(); err != nil || state.ExitCode != 0 {
					t.Errorf("%d: %+v, %v", i, state, err)
				}
			}
		})
	}

	all.Wait()
	time.Sleep(10 * time.Millisecond) // goroutines end just after what they tell
	if n := open(); n != files {
		t.Errorf("%d descriptors before, %d after", files, n)
	}
	if n := runtime.NumGoroutine(); n > routines {
		t.Errorf("%d goroutines before, %d after", routines, n)
	}
	entries, err := os.ReadDir(box.path("stubs"))
	check(t, err)
	if len(entries) != 2 { // for the targets of the first process, and of all others
		t.Errorf("stubs: %v", entries)
	}
	var st unix.WaitStatus
	if pid, err := unix.Wait4(-1, &st, unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
		t.Errorf("a child is left: %d, %v", pid, err)
	}
}
