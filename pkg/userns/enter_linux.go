package userns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// programExposed is the warning when the builder runs from a file that a RUN may be able to change.
const programExposed = "a RUN could change the program rbuild itself if its file belongs to you: %v"

// Enter starts this program again, with the same arguments, as root of a user namespace with a mount namespace of its
// own, waits for its end and returns its exit code: 128+n if signal n killed it. Standard input, output and error are
// passed on. A non-nil error says why the namespace could not be made (mostly an [*Error]); then the builder's main
// did not get past [Join] and nothing of it is left.
//
// While it waits, SIGINT, SIGTERM, SIGHUP and SIGQUIT are passed to the builder, except those that this process was
// told to ignore (nohup). A terminal sends its signals to the whole foreground group, so that the builder gets them
// twice: a handler must take a repeated signal for one. The end of ctx is passed on as SIGTERM; so ctx should not be one
// that ends by these signals. Ending in time is the builder's business. A signal that comes before the builder has joined
// kills it, and the exit code is 128+n.
//
// The builder gets SIGKILL when this process dies, and all of its PID namespace with it.
func Enter(ctx context.Context, o Options) (exitCode int, err error) {
	// The parent death signal is sent when the thread that forked ends, not the process (prctl(2), go.dev/issue/27505).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if _, ok := os.LookupEnv(joinEnv); ok { //nolint:forbidigo // the handshake's own variable
		return 0, &Error{Reason: Unjoined, Detail: "this process is a builder that has not called Join"}
	}

	s, err := readStanding()
	if err != nil {
		return 0, err
	}

	m, err := plans(ctx, s, o)
	l := launcher{options: o, standing: s, signals: notify()}
	defer signal.Stop(l.signals)

	if err == nil {
		exitCode, err = l.attempt(ctx, m)
	}
	if err == nil || !o.AllowSingle || !singleHelps(err) {
		return exitCode, err
	}

	return l.attempt(ctx, mapper{plan: single(s, err)})
}

// plans chooses the mode, with what is needed to write its maps.
func plans(ctx context.Context, s standing, o Options) (mapper, error) {
	dirs := o.HelperDirs
	if dirs == nil {
		dirs = helperDirs()
	}
	var m mapper
	var err error
	m.plan, err = choose(s, func() (delegation, error) {
		var err error
		m.deleg, err = readDelegation(ctx, s, dirs)
		return m.deleg, err
	})

	return m, err
}

// singleHelps tells whether the maps were what failed: a single id needs nobody's leave.
func singleHelps(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Reason.AboutIDs()
}

// notify registers the signals to be passed on. One that is ignored stays so, here and in the builder.
func notify() chan os.Signal {
	c := make(chan os.Signal, 8)
	for _, sig := range []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT} {
		if !signal.Ignored(sig) {
			signal.Notify(c, sig)
		}
	}
	return c
}

type launcher struct {
	options  Options
	standing standing
	signals  chan os.Signal
}

// attempt runs the builder by one plan.
func (l launcher) attempt(ctx context.Context, m mapper) (int, error) {
	code, err := l.start(ctx, m)
	var refused *refusal
	if !errors.As(err, &refused) {
		return code, err
	}
	return 0, explainRefusal(refused.Stage, refused.Err, readSituation())
}

// refusal is what the kernel refused to the builder, or to the launcher on its behalf.
type refusal struct {
	Stage string
	Err   error
}

func (r *refusal) Error() string { return fmt.Sprintf("%s: %v", r.Stage, r.Err) }

// start runs the builder once, to its end.
func (l launcher) start(ctx context.Context, m mapper) (int, error) {
	ours, theirs, err := socketpair()
	if err != nil {
		return 0, err
	}
	defer ours.Close()

	cmd, err := l.command(m.plan, theirs)
	if err == nil {
		err = setInherit(l.options.Files, 0)
	}
	if err == nil {
		var program *os.File
		if program, err = runReadOnly(cmd, m.plan); err != nil {
			m.plan.Warnings = append(slices.Clip(m.plan.Warnings), fmt.Sprintf(programExposed, err))
		}
		err = cmd.Start()
		_ = program.Close() // the builder has it mapped, or there is none
	}

	_ = theirs.Close() // the builder has its own copy, or there is none
	if closeErr := setInherit(l.options.Files, unix.FD_CLOEXEC); err == nil && closeErr != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return 0, closeErr
	}
	if err != nil {
		return 0, startError(m.plan, err)
	}

	f := forwarder{signals: l.signals, builder: cmd.Process, ended: make(chan struct{})}
	go f.run(ctx)
	if err = l.handshake(ctx, m, cmd.Process.Pid, ours); err != nil {
		_ = cmd.Process.Kill() // it may have ended by itself
	} else {
		f.joined.Store(true)
		_ = json.NewEncoder(ours).Encode(welcome{}) // fails only when it has just ended
	}

	waitErr := cmd.Wait()
	close(f.ended)
	sig := f.interrupted.Load()
	switch {
	case sig != 0:
		return 128 + int(sig), nil
	case err == nil:
		return exitCode(cmd.ProcessState, waitErr)
	case errors.Is(err, errUnjoined):
		return 0, &Error{Reason: Unjoined, Detail: fmt.Sprintf("the program ended before it was root in its namespace (%s)", cmd.ProcessState)}
	}

	return 0, err
}

// setInherit sets the close-on-exec flag of files: FD_CLOEXEC, or 0 while the builder is started.
func setInherit(files []*os.File, flag int) error {
	for _, f := range files {
		if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, flag); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
	}
	return nil
}

// command is the builder: this very program (not what is at its path now) with the same arguments.
func (l launcher) command(p plan, socket *os.File) (*exec.Cmd, error) {
	cmd := exec.Command("/proc/self/exe") //nolint:noctx // the end of the context is a SIGTERM, not a kill: see forwarder
	cmd.Args = os.Args
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Not by ExtraFiles, which would take number 3: the user's own descriptors stay open (-f <(command), -f /dev/fd/3).
	fd := socket.Fd()
	if _, err := unix.FcntlInt(fd, unix.F_SETFD, 0); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}

	cmd.Env = builderEnv(cmd.Environ(), p.Mode, l.standing, l.options.Env)
	cmd.Env = append(cmd.Env, joinEnv+"="+strconv.Itoa(int(fd)))
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if l.options.PID {
		attr.Cloneflags |= unix.CLONE_NEWPID
	}
	if p.newUserNS() {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		// Until its map is written the child's uid is not root's, and exec would drop the capabilities that clone
		// gave it in the new namespace. Ambient ones stay; Join removes them.
		last, err := lastCap()
		if err != nil {
			return nil, err
		}
		for c := uintptr(0); c <= last; c++ {
			attr.AmbientCaps = append(attr.AmbientCaps, c)
		}
	}

	cmd.SysProcAttr = attr

	return cmd, nil
}

// builderEnv adds what go.podman.io/storage needs to know that it is rootless. An existing namespace keeps what podman
// or buildah said about it.
func builderEnv(env []string, mode Mode, s standing, extra []string) []string {
	out := slices.Clone(env)
	if mode != Identity {
		out = slices.DeleteFunc(out, func(kv string) bool {
			key, _, _ := strings.Cut(kv, "=")
			return key == envConfigured || key == envUID || key == envGID
		})
	}
	if mode != Identity && mode != Root {
		out = append(out, envConfigured+"=done", envUID+"="+strconv.Itoa(s.UID), envGID+"="+strconv.Itoa(s.GID))
	}
	return append(out, extra...)
}

// startError tells a refused clone from a program that cannot be executed.
func startError(p plan, err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return fmt.Errorf("starting the builder: %w", err)
	}
	if p.newUserNS() {
		return &refusal{Stage: "creating a user namespace", Err: errno}
	}
	return &refusal{Stage: "creating a mount namespace", Err: errno}
}

// forwarder passes signals and the end of a context to the builder until it has ended.
type forwarder struct {
	signals     <-chan os.Signal
	builder     *os.Process
	ended       chan struct{}
	joined      atomic.Bool  // the builder has reported that it is root
	interrupted atomic.Int32 // the signal that ended it
}

func (f *forwarder) run(ctx context.Context) {
	done := ctx.Done()
	for {
		select {
		case sig := <-f.signals:
			if s, ok := sig.(syscall.Signal); ok {
				f.send(s)
			}
		case <-done:
			f.send(unix.SIGTERM)
			done = nil
		case <-f.ended:
			return
		}
	}
}

// send kills a builder that has not joined: there is nothing to be tidied up yet, and PID 1 loses every other signal
// until the Go runtime has installed its handlers (pid_namespaces(7)).
func (f *forwarder) send(sig syscall.Signal) {
	if !f.joined.Load() {
		f.interrupted.Store(int32(sig))
		sig = unix.SIGKILL
	}
	_ = f.builder.Signal(sig) // fails only when it has just ended
}

// errUnjoined: the builder closed the socket without a report.
var errUnjoined = errors.New("no report from the builder")

// handshake writes the maps, tells the builder to go on, and hears how that went.
func (l launcher) handshake(ctx context.Context, m mapper, builder int, socket *os.File) error {
	if err := m.write(ctx, builder); err != nil {
		return err
	}

	h := hello{
		Mode: m.plan.Mode, UID: l.standing.UID, GID: l.standing.GID,
		PID: l.options.PID, KeepGroups: l.options.KeepGroups, Warnings: m.plan.Warnings,
	}

	if err := json.NewEncoder(socket).Encode(h); err != nil {
		return errUnjoined
	}

	var r report
	if err := json.NewDecoder(socket).Decode(&r); err != nil {
		return errUnjoined
	}
	if r.Stage == "" {
		return nil
	}
	if r.Errno != 0 {
		return &refusal{Stage: r.Stage, Err: syscall.Errno(r.Errno)}
	}

	return fmt.Errorf("%s: %s", r.Stage, r.Text)
}

func exitCode(state *os.ProcessState, err error) (int, error) {
	if state == nil {
		return 0, fmt.Errorf("waiting for the builder: %w", err)
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return state.ExitCode(), nil
}

// socketpair returns two connected stream sockets that no other program inherits.
func socketpair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "builder"), os.NewFile(uintptr(fds[1]), "launcher"), nil
}
