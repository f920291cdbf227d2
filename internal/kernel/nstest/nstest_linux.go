// Package nstest runs a test binary as the builder runs: as root of a fresh user namespace.
//
// A package whose tests need namespaces, mounts or foreign uids says
//
//	func TestMain(m *testing.M) { nstest.Main(m) }
//
// and begins each test that needs them with nstest.Need(t). Main executes the test binary again
// in new user, mount and PID namespaces with a /proc of its own: as an ordinary user with the
// whole range of /etc/subuid and /etc/subgid behind uid 0 (by newuidmap and newgidmap), as real
// root with the ids from 100000 on, and unchanged where it is root of a user namespace already.
//
// Where none of that works the tests run outside, and Need skips with the reason. If the
// environment has RBUILD_TEST_NEED_NS=1, Need fails instead, so that a continuous integration
// that should have namespaces cannot pass by skipping.
package nstest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The environment names the stage of the re-executed binary, or the reason why no stage runs.
const (
	stageVar  = "RBUILD_NSTEST_STAGE" // "wait": wait for the map and execute again; "run": run the tests
	reasonVar = "RBUILD_NSTEST_REASON"
	needVar   = "RBUILD_TEST_NEED_NS"
)

// Main runs the tests of m in the namespaces described above and exits with their result.
func Main(m *testing.M) {
	switch os.Getenv(stageVar) {
	case "wait":
		fmt.Fprintln(os.Stderr, "nstest:", awaitMap())
		os.Exit(1)
	case "run":
		if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			fmt.Fprintln(os.Stderr, "nstest: mounting /proc:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}

	if Inside() {
		os.Exit(m.Run())
	}
	code, err := reexec()
	if err != nil {
		code = runOutside(m, err)
	}
	os.Exit(code)
}

// runOutside runs the tests without a namespace. Need skips tests with this reason.
func runOutside(m *testing.M, reason error) int {
	if err := os.Setenv(reasonVar, reason.Error()); err != nil {
		fmt.Fprintln(os.Stderr, "nstest:", err)
		return 1
	}
	return m.Run()
}

// Inside reports whether this process is root of a user namespace that is not the first one.
func Inside() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil || os.Getuid() != 0 {
		return false
	}
	return strings.Join(strings.Fields(string(text)), " ") != "0 0 4294967295"
}

// Need skips t, with the reason, where Main found no way into a user namespace.
func Need(tb testing.TB) {
	tb.Helper()
	if Inside() {
		return
	}

	reason := os.Getenv(reasonVar)
	if reason == "" {
		reason = "nstest.Main was not called"
	}
	if os.Getenv(needVar) != "" {
		tb.Fatal("this test needs a user namespace: ", reason)
	}
	tb.Skip("this test needs a user namespace: ", reason)
}

// reexec runs this binary again in new namespaces and returns its exit code. The error says why
// no namespace could be had; then nothing was run.
func reexec() (int, error) {
	maps, err := idMaps()
	if err != nil {
		return 0, err
	}

	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin = os.Stdin
	cmd.Stdout = os.Stdout
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  unix.SIGKILL,
	}

	runtime.LockOSThread() // Pdeathsig follows the thread, not the process.
	defer runtime.UnlockOSThread()

	if maps.direct {
		err = startDirect(cmd)
	} else {
		err = startMapped(cmd, maps)
	}
	if err != nil {
		return 0, err
	}
	if err := ignoreExit(cmd.Wait()); err != nil {
		return 0, err
	}

	return cmd.ProcessState.ExitCode(), nil
}

// startDirect lets the Go library write the map, which real root may.
func startDirect(cmd *exec.Cmd) error {
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}
	cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = ids, ids
	cmd.SysProcAttr.GidMappingsEnableSetgroups = true
	cmd.SysProcAttr.Credential = &syscall.Credential{}
	cmd.Env = append(os.Environ(), stageVar+"=run")
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting in a new user namespace: %w", err)
	}
	return nil
}

// startMapped starts the binary in stage "wait" and has newuidmap and newgidmap write its maps.
func startMapped(cmd *exec.Cmd, maps idMap) error {
	wait, ready, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()

	cmd.Env = append(os.Environ(), stageVar+"=wait")
	cmd.ExtraFiles = []*os.File{wait}
	err = cmd.Start()
	wait.Close()
	if err != nil {
		return fmt.Errorf("starting in a new user namespace: %w", err)
	}

	if err := maps.write(cmd.Process.Pid); err != nil {
		return errors.Join(err, cmd.Process.Kill(), ignoreExit(cmd.Wait()))
	}
	if _, err := ready.Write([]byte{1}); err != nil {
		return errors.Join(err, cmd.Process.Kill(), ignoreExit(cmd.Wait()))
	}
	return nil
}

func ignoreExit(err error) error {
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}

// awaitMap is the first stage: it waits until the maps are written and executes the binary again,
// because the first exec, under an unmapped uid, lost the capabilities.
func awaitMap() error {
	pipe := os.NewFile(3, "pipe")
	if _, err := io.ReadFull(pipe, make([]byte, 1)); err != nil {
		return fmt.Errorf("waiting for the id map: %w", err)
	}
	if err := pipe.Close(); err != nil {
		return err
	}

	env := []string{stageVar + "=run"}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, stageVar+"=") {
			env = append(env, v)
		}
	}

	return unix.Exec("/proc/self/exe", os.Args, env)
}

// idMap holds the extents, three numbers each, of both maps.
type idMap struct {
	uid, gid []string
	direct   bool // by this process, which is real root, rather than by newuidmap
}

func idMaps() (idMap, error) {
	if os.Geteuid() == 0 {
		return idMap{direct: true}, nil
	}

	u, err := user.Current()
	if err != nil {
		return idMap{}, err
	}

	uid, err := subordinate("/etc/subuid", u)
	if err != nil {
		return idMap{}, err
	}

	gid, err := subordinate("/etc/subgid", u)
	if err != nil {
		return idMap{}, err
	}
	return idMap{
		uid: append([]string{"0", u.Uid, "1"}, uid...),
		gid: append([]string{"0", u.Gid, "1"}, gid...),
	}, nil
}

// subordinate reads the ranges of u from file (subuid(5)) as extents that begin with id 1.
func subordinate(file string, u *user.User) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	var extents []string
	next := 1
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) != 3 || (fields[0] != u.Username && fields[0] != u.Uid) {
			continue
		}
		size, err := strconv.Atoi(fields[2])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		extents = append(extents, strconv.Itoa(next), fields[1], fields[2])
		next += size
	}

	if next < 65535 {
		return nil, fmt.Errorf("%s has %d ids for %s, the tests need 65535", file, next-1, u.Username)
	}

	return extents, nil
}

func (m idMap) write(pid int) error {
	for program, extents := range map[string][]string{"newuidmap": m.uid, "newgidmap": m.gid} {
		out, err := exec.Command(program, append([]string{strconv.Itoa(pid)}, extents...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}
