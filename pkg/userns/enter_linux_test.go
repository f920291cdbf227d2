package userns

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// The test binary plays all roles. With this variable it is a launcher, and Enter starts it again
// as a builder.
const (
	envScene   = "USERNS_TEST_SCENE"
	envOptions = "USERNS_TEST_OPTIONS"
)

func TestMain(m *testing.M) {
	scene := os.Getenv(envScene)
	if scene == "unjoined" && os.Getenv(joinEnv) != "" {
		os.Exit(3) // a main that forgot to join
	}
	state, err := Join()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "join:", err)
		os.Exit(99)
	case state != nil:
		os.Exit(play(scene, state))
	case scene == "":
		os.Exit(m.Run())
	}

	var o Options
	if err := json.Unmarshal([]byte(os.Getenv(envOptions)), &o); err != nil {
		panic(err)
	}
	code, err := Enter(context.Background(), o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(98)
	}

	os.Exit(code)
}

// seen holds the observations of a builder about itself.
type seen struct {
	State     *State
	PID       int
	Groups    int
	UID, GID  int
	Status    []string // the lines of /proc/self/status that must be alike in all threads
	Slave     bool
	Variables []string
	Inherited bool // the socket is still open or named in the environment
	Nogroup   string
}

// play is the main function of the builder.
func play(scene string, state *State) int {
	switch scene {
	case "look":
		if err := json.NewEncoder(os.Stdout).Encode(look(state)); err != nil {
			panic(err)
		}
	case "exit":
		return 42
	case "killed":
		// A child dies by a signal here: PID 1 of a PID namespace ignores its own signals.
		fmt.Println("ready")
		time.Sleep(time.Minute)
	case "signal":
		return awaitSignal()
	case "family":
		return family(state)
	case "cat":
		if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
			return 1
		}
	case "pod":
		if err := unix.Mount("tmpfs", "/proc/bus", "tmpfs", 0, ""); err != nil {
			panic(err)
		}
		return asPod()
	case "limit":
		if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
			panic(err)
		}
		return asPod()
	case "seccomp":
		forbidUserNS()
		return asPod()
	case "inner":
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
			panic(err)
		}
		return inner("look", Options{PID: true})
	}

	return 0
}

func awaitSignal() int {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	fmt.Println("ready")
	fmt.Println((<-c).String())
	return 5
}

// family leaves a process behind that holds standard output. Only the end of a PID namespace ends
// it.
func family(state *State) int {
	if state.PIDNamespace {
		cmd := exec.Command("sleep", "60")
		cmd.Stdout = os.Stdout
		if err := cmd.Start(); err != nil {
			return 1
		}
	}
	fmt.Println("ready")
	time.Sleep(time.Minute)
	return 0
}

// inner is a launcher inside a builder.
func inner(scene string, o Options) int {
	text, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envScene+"="+scene, envOptions+"="+string(text))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		panic(err)
	}
	return cmd.ProcessState.ExitCode()
}

// asPod gives this process the rights of a pod with hostUsers: false: root of some IDs, without
// CAP_SYS_ADMIN.
func asPod() int {
	runtime.LockOSThread()
	// A test with the race detector has cgo, and Join then removes ambient capabilities on the
	// calling thread only. This can be another thread, and a program keeps ambient capabilities
	// although the bounding set lacks them.
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		panic(err)
	}
	if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_ADMIN, 0, 0, 0); err != nil {
		panic(err)
	}
	return inner("look", Options{PID: true})
}

// forbidUserNS makes clone(2) with CLONE_NEWUSER fail with EPERM on this thread, as the seccomp
// profiles of container engines do.
func forbidUserNS() {
	runtime.LockOSThread()
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLONE, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 16}, // low half of args[0], little endian
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: unix.CLONE_NEWUSER, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}

	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		panic(errno)
	}
}

func look(state *State) seen {
	v := seen{State: state, PID: os.Getpid(), UID: os.Getuid(), GID: os.Getgid()}
	groups, err := os.Getgroups()
	if err != nil {
		panic(err)
	}
	v.Groups = len(groups)
	v.Status = threadStatus()
	v.Slave = allSlaves()
	for _, kv := range os.Environ() {
		if strings.HasPrefix(kv, "_CONTAINERS_") || strings.HasPrefix(kv, "EXTRA=") {
			v.Variables = append(v.Variables, kv)
		}
		v.Inherited = v.Inherited || strings.HasPrefix(kv, joinEnv)
	}

	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		panic(err)
	}
	for _, fd := range fds {
		target, _ := os.Readlink(fd) // that of the glob itself is gone
		v.Inherited = v.Inherited || strings.HasPrefix(target, "socket:")
	}

	v.Nogroup = chownNogroup()

	return v
}

// threadStatus returns the fields of /proc/self/task/*/status that are equal on all threads. A race
// test has cgo, and then capabilities of other threads cannot be changed.
func threadStatus() []string {
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_GETPPID, 0, 0, 0); errno == syscall.ENOTSUP {
		return rootStatus()
	}

	var common []string
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(tasks) < 2 {
		panic(fmt.Sprint("threads: ", tasks, err))
	}
	for i, task := range tasks {
		status := statusOf(task)
		if i == 0 {
			common = status
		} else if !cmp.Equal(common, status) {
			panic(cmp.Diff(common, status))
		}
	}

	return common
}

func statusOf(path string) []string {
	text, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "CapInh") || strings.HasPrefix(line, "CapAmb") || strings.HasPrefix(line, "Uid") || strings.HasPrefix(line, "Gid") {
			out = append(out, strings.Join(strings.Fields(line), " "))
		}
	}
	return out
}

// allSlaves reports whether no mount propagates to other namespaces.
func allSlaves() bool {
	text, err := os.ReadFile("/proc/self/mountinfo")
	return err == nil && !strings.Contains(string(text), " shared:")
}

func chownNogroup() string {
	f, err := os.CreateTemp("", "userns")
	if err != nil {
		return err.Error()
	}
	defer os.Remove(f.Name())
	if err := f.Chown(nogroup, nogroup); err != nil {
		return err.Error()
	}
	return ""
}

// launch returns the command of a launcher that plays a scene.
func launch(t *testing.T, scene string, o Options) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), envScene+"="+scene, envOptions+"="+string(text))
	return cmd
}

// needMode returns the mode for this user, and skips the test if the user cannot become root.
func needMode(t *testing.T) Mode {
	t.Helper()
	s, err := readStanding()
	if err != nil {
		t.Fatal(err)
	}
	m, err := launcher{standing: s}.plan(t.Context())
	if err != nil {
		t.Skip("needs a user that can enter a namespace: ", err)
	}
	return m.plan.Mode
}

func needUser(t *testing.T) {
	t.Helper()
	if mode := needMode(t); mode != Helper {
		t.Skip("needs an ordinary user with subordinate ids; this one would use mode ", mode)
	}
}

func observe(t *testing.T, scene string, o Options) seen {
	t.Helper()
	cmd := launch(t, scene, o)
	var diag bytes.Buffer
	cmd.Stderr = &diag
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s%s", err, diag.String(), out)
	}
	var v seen
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return v
}

// rootStatus is the status that all threads of a builder must have.
func rootStatus() []string {
	return []string{"Uid: 0 0 0 0", "Gid: 0 0 0 0", "CapInh: 0000000000000000", "CapAmb: 0000000000000000"}
}

func TestEnter(t *testing.T) {
	mode := needMode(t)
	for _, pid := range []bool{true, false} {
		t.Run("pid="+strconv.FormatBool(pid), func(t *testing.T) {
			v := observe(t, "look", Options{PID: pid, Env: []string{"EXTRA=1"}})
			if v.State.Mode != mode || v.State.PIDNamespace != pid || len(v.State.Warnings) > 0 {
				t.Errorf("state %+v, want mode %s", v.State, mode)
			}
			if v.State.UID != os.Getuid() || v.State.GID != os.Getgid() {
				t.Errorf("outside %d:%d, want %d:%d", v.State.UID, v.State.GID, os.Getuid(), os.Getgid())
			}
			if (v.PID == 1) != pid {
				t.Errorf("builder has pid %d", v.PID)
			}
			if v.UID != 0 || v.GID != 0 || v.Groups != 0 || v.Nogroup != "" || v.Inherited || !v.Slave {
				t.Errorf("builder is %+v", v)
			}
			if diff := cmp.Diff(rootStatus(), v.Status); diff != "" {
				t.Error(diff)
			}
			if last := v.Variables[len(v.Variables)-1]; last != "EXTRA=1" {
				t.Errorf("variables %v", v.Variables)
			}
		})
	}
}

func TestEnterTwice(t *testing.T) {
	needUser(t)
	v := observe(t, "inner", Options{PID: true})
	if v.State.Mode != Identity || v.PID != 1 || len(v.State.Warnings) > 0 {
		t.Errorf("builder within a builder is %+v", v)
	}
	want := []string{envConfigured + "=done", envUID + "=" + strconv.Itoa(os.Getuid()), envGID + "=" + strconv.Itoa(os.Getgid())}
	if diff := cmp.Diff(want, v.Variables); diff != "" {
		t.Error(diff)
	}
}

func TestEnterInPod(t *testing.T) {
	needUser(t)
	v := observe(t, "pod", Options{PID: true})
	if v.State.Mode != Direct || !v.State.PIDNamespace || !v.State.OuterProc || v.PID != 1 || v.Nogroup != "" || len(v.State.Warnings) > 0 {
		t.Errorf("builder in a pod is %+v, %+v", v, v.State)
	}
	if diff := cmp.Diff(rootStatus(), v.Status); diff != "" {
		t.Error(diff)
	}
}

func TestEnterDirect(t *testing.T) {
	if needMode(t) != Root {
		t.Skip("needs real root, to play a container's root on the machine's own ids")
	}
	cmd := launch(t, "look", Options{PID: true})
	runtime.LockOSThread() // the thread loses a capability for good, and ends with the test
	if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_ADMIN, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err, string(out))
	}
	var v seen
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]IDMap{{0, 100000, 65536}}, v.State.UIDMap); diff != "" || v.State.Mode != Direct {
		t.Errorf("%+v %s", v.State, diff)
	}
}

func TestEnterSingle(t *testing.T) {
	needUser(t)
	o := Options{PID: true, AllowSingle: true, HelperDirs: []string{t.TempDir()}}
	v := observe(t, "look", o)
	if v.State.Mode != Single || v.UID != 0 || v.Nogroup == "" {
		t.Errorf("builder is %+v, %+v", v, v.State)
	}
	if len(v.State.Warnings) != 1 || !strings.Contains(v.State.Warnings[0], "newuidmap is not installed") {
		t.Errorf("warnings %q", v.State.Warnings)
	}
}

func TestEnterErrors(t *testing.T) {
	needUser(t)
	copies := t.TempDir()
	for _, tool := range []string{"newuidmap", "newgidmap"} {
		text, err := os.ReadFile(findTool(helperDirs(), tool))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copies, tool), text, 0o755); err != nil {
			t.Fatal(err)
		}
	}

	tests := []struct {
		name, scene string
		o           Options
		says        string
	}{
		{"helpers are not there", "look", Options{HelperDirs: []string{t.TempDir()}}, "newuidmap is not installed; run as root: apt-get install uidmap"},
		{"helpers are not setuid", "look", Options{HelperDirs: []string{copies}}, "is neither setuid root nor has it cap_set"},
		{"no namespace left", "limit", Options{}, "creating a user namespace: no space left on device (user.max_user_namespaces is 0); run as root: sysctl"},
		{"seccomp", "seccomp", Options{}, "creating a user namespace: operation not permitted (a seccomp filter is active); in a pod set"},
		{"no Join", "unjoined", Options{AllowSingle: true}, "ended before it was root in its namespace (exit status 3)"},
	}

	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			out, err := launch(t, tc.scene, tc.o).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 98 {
				t.Fatalf("%v: %s", err, out)
			}
			if got := string(out); !strings.Contains(got, tc.says) || strings.Count(got, "\n") != 1 {
				t.Errorf("says %q", got)
			}
		})
	}
}

func TestEnterNoNewPrivs(t *testing.T) {
	needUser(t)
	cmd := launch(t, "look", Options{})
	runtime.LockOSThread() // the thread keeps no_new_privs for good, and ends with the test
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "no_new_privs is set for this process") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestExitCode(t *testing.T) {
	needMode(t)
	var exit *exec.ExitError
	if err := launch(t, "exit", Options{PID: true}).Run(); !errors.As(err, &exit) || exit.ExitCode() != 42 {
		t.Errorf("builder's exit code 42 comes out as %v", err)
	}
}

func TestStandardStreams(t *testing.T) {
	needMode(t)
	cmd := launch(t, "cat", Options{PID: true})
	cmd.Stdin = strings.NewReader("through\n")
	if out, err := cmd.Output(); err != nil || string(out) != "through\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// started runs a scene until the builder has printed "ready".
func started(t *testing.T, scene string, o Options) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := launch(t, scene, o)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err, cmd.Wait())
	}
	return cmd, out
}

func TestSignals(t *testing.T) {
	needMode(t)
	// If this process ignores SIGHUP (nohup), the launcher would ignore it too. A handler is not
	// inherited.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, unix.SIGHUP)
	defer signal.Stop(hangup)
	for _, sig := range []syscall.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT} {
		for _, pid := range []bool{true, false} {
			t.Run(fmt.Sprint(sig, " pid=", pid), func(t *testing.T) {
				cmd, out := started(t, "signal", Options{PID: pid})
				if err := cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				text, _ := io.ReadAll(out)
				var exit *exec.ExitError
				if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 5 {
					t.Errorf("launcher: %v, want exit code 5", err)
				}
				if string(text) != sig.String()+"\n" {
					t.Errorf("builder got %q", text)
				}
			})
		}
	}
}

// childOf returns the only child of a process.
func childOf(t *testing.T, pid int) int {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if f := strings.Fields(string(text)); len(f) == 1 {
			n, err := strconv.Atoi(f[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}

	t.Fatalf("process %d has no child", pid)

	return 0
}

func TestKilledBuilder(t *testing.T) {
	needMode(t)
	cmd, _ := started(t, "killed", Options{PID: true})
	if err := unix.Kill(childOf(t, cmd.Process.Pid), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 137 {
		t.Errorf("launcher: %v, want exit code 137", err)
	}
}

// TestKilledLauncher waits until all processes that hold standard output are gone.
func TestKilledLauncher(t *testing.T) {
	needMode(t)
	for _, pid := range []bool{true, false} {
		t.Run("pid="+strconv.FormatBool(pid), func(t *testing.T) {
			cmd, out := started(t, "family", Options{PID: pid})
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			gone := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, out)
				gone <- err
			}()

			select {
			case err := <-gone:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(time.Minute):
				t.Error("something of the builder is still there a minute after its launcher was killed")
			}

			_ = cmd.Wait()
		})
	}
}

// TestKilledEarly kills launchers at all points of the handshake.
func TestKilledEarly(t *testing.T) {
	needMode(t)
	for i := range 20 {
		cmd := launch(t, "killed", Options{PID: i%2 == 0})
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, out); err != nil { // ends when the builder has ended
			t.Fatal(err)
		}
		_ = cmd.Wait()
	}
}

func TestJoinRefusesOtherDescriptors(t *testing.T) {
	for _, value := range []string{"", "x", "0", "1000000", "-1"} {
		t.Run(value, func(t *testing.T) {
			if f, err := inherited(value); err == nil {
				t.Errorf("took %v", f.Name())
			}
		})
	}

	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := inherited(strconv.Itoa(int(f.Fd()))); err == nil {
		t.Error("took a descriptor that is no socket")
	}
}

func TestNameIn(t *testing.T) {
	const text = "root:x:0:0:root:/root:/bin/sh\nshort:x\nalice:x:1000:100::/home/alice:\nalias:x:1000:100::/:\n"
	for uid, want := range map[int]string{0: "root", 1000: "alice", 100: ""} {
		if got := nameIn(text, uid); got != want {
			t.Errorf("uid %d is %q, want %q", uid, got, want)
		}
	}
}

func TestFindTool(t *testing.T) {
	first, second, third := t.TempDir(), t.TempDir(), t.TempDir()
	dirs := []string{first, second, third}
	put := func(dir string, mode os.FileMode) {
		path := filepath.Join(dir, "tool")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}

	check := func(want string) {
		t.Helper()
		if got := findTool(dirs, "tool"); got != want {
			t.Errorf("found %q, want %q", got, want)
		}
	}

	check("")
	put(first, 0o644)
	check("")
	put(second, 0o755)
	check(filepath.Join(second, "tool"))
	put(third, 0o755|os.ModeSetuid)
	check(filepath.Join(third, "tool"))
}
