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

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// programExposed is the warning if the builder runs from a file that a RUN can possibly change.
const programExposed = "a RUN could change the program rbuild itself if its file belongs to you: %v"

// Enter starts this program again with the same arguments, as root of a user namespace with its own
// mount namespace. Enter waits for the end of the builder and returns its exit code, which is 128+n
// if signal n killed the builder. The builder has the standard input, output and error of this
// process.
//
// An error says why the namespace could not be created, in most cases as an [*Error]. The builder
// has then not returned from [Join] and is gone.
//
// Enter forwards SIGINT, SIGTERM, SIGHUP and SIGQUIT to the builder, except the signals that this
// process ignores (nohup). A terminal sends its signals to the builder too, so a handler must
// expect each signal twice. When ctx ends, Enter sends SIGTERM; ctx should therefore not end by
// these signals. Enter does not kill a builder that ignores signals. A signal that arrives before
// Join has returned kills the builder, and the exit code is 128+n.
//
// The builder and its PID namespace receive SIGKILL when this process dies. Call Enter once at a
// time.
func Enter(ctx context.Context, o Options) (exitCode int, err error) {
	// The parent death signal is sent when the thread that forked ends, not the process (prctl(2),
	// go.dev/issue/27505).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if _, ok := os.LookupEnv(joinEnv); ok { //nolint:forbidigo // the handshake's own variable
		return 0, &Error{Reason: Unjoined, Detail: "this process is a builder that has not called Join"}
	}

	s, err := readStanding()
	if err != nil {
		return 0, err
	}

	l := launcher{options: o, standing: s}
	m, err := l.plan(ctx)
	l.signals = notify()
	defer signal.Stop(l.signals)

	if err != nil {
		return l.fallBack(ctx, err)
	}
	exitCode, err = l.attempt(ctx, m)
	if err != nil {
		return l.fallBack(ctx, err)
	}
	return exitCode, nil
}

// fallBack tries the mode Single after err, if the options allow that.
func (l launcher) fallBack(ctx context.Context, err error) (exitCode int, _ error) {
	if !l.options.AllowSingle || !singleHelps(err) {
		return 0, err
	}
	return l.attempt(ctx, mapper{plan: single(l.standing, err)})
}

// plan chooses the mode and reads the subordinate IDs that the mode needs.
func (l launcher) plan(ctx context.Context) (mapper, error) {
	dirs := l.options.HelperDirs
	if dirs == nil {
		dirs = helperDirs()
	}

	var m mapper
	p, err := choose(l.standing, func() (d delegation, err error) {
		m.deleg, err = readDelegation(ctx, l.standing, dirs)
		return m.deleg, err
	})
	m.plan = p
	return m, err
}

// singleHelps reports whether IDs could not be mapped. Mapping a single ID needs no permission.
func singleHelps(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Reason.AboutIDs()
}

// notify registers the signals to forward. A signal that is ignored stays ignored in both
// processes.
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

// attempt runs the builder with the plan of m and explains a refusal of the kernel.
func (l launcher) attempt(ctx context.Context, m mapper) (int, error) {
	code, err := l.start(ctx, m)
	var refused *refusal
	if !errors.As(err, &refused) {
		return code, err
	}
	return 0, explainRefusal(refused.Stage, refused.Err, readSituation())
}

// refusal is an error of a system call that creates or sets up the namespaces.
type refusal struct {
	Stage string
	Err   error
}

func (r *refusal) Error() string { return fmt.Sprintf("%s: %v", r.Stage, r.Err) }

// start runs the builder once, to its end.
func (l launcher) start(ctx context.Context, m mapper) (int, error) {
	ours, theirs, err := fdfs.SocketPair("builder", "launcher")
	if err != nil {
		return 0, err
	}
	defer ours.Close()

	cmd, err := l.launch(&m.plan, theirs)
	_ = theirs.Close() // the builder has a copy, or was not started
	if err != nil {
		return 0, startError(m.plan, err)
	}

	f := forwarder{signals: l.signals, builder: cmd.Process, ended: make(chan struct{})}
	go f.run(ctx)
	err = l.handshake(ctx, m, cmd.Process.Pid, ours)
	if err != nil {
		_ = cmd.Process.Kill() // fails if the builder has ended
	} else {
		f.joined.Store(true)
		_ = json.NewEncoder(ours).Encode(welcome{}) // fails if the builder has ended
	}

	waitErr := cmd.Wait()
	close(f.ended)

	if sig := f.interrupted.Load(); sig != 0 {
		return 128 + int(sig), nil
	}
	if errors.Is(err, errUnjoined) {
		return 0, &Error{
			Reason: Unjoined,
			Detail: fmt.Sprintf("the program ended before it was root in its namespace (%s)", cmd.ProcessState),
		}
	}
	if err != nil {
		return 0, err
	}
	return exitCode(cmd.ProcessState, waitErr)
}

// launch starts the builder. It adds a warning to the plan if the program is not on a read-only
// mount.
func (l launcher) launch(p *plan, socket *os.File) (*exec.Cmd, error) {
	cmd, err := l.command(*p, socket)
	if err != nil {
		return nil, err
	}

	program, err := runReadOnly(cmd, *p)
	if err != nil {
		p.Warnings = append(slices.Clip(p.Warnings), fmt.Sprintf(programExposed, err))
	}
	if err := setInherit(l.options.Files, 0); err != nil {
		return nil, errors.Join(err, program.Close())
	}
	err = cmd.Start()
	_ = program.Close() // the builder has the file mapped; nil is allowed
	if err != nil {
		return nil, errors.Join(err, setInherit(l.options.Files, unix.FD_CLOEXEC))
	}

	if err := setInherit(l.options.Files, unix.FD_CLOEXEC); err != nil {
		_ = cmd.Process.Kill() // the error is reported
		_ = cmd.Wait()
		return nil, err
	}
	return cmd, nil
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

// command describes the builder: the program of this process, not the file that is at its path now,
// with the same arguments.
func (l launcher) command(p plan, socket *os.File) (*exec.Cmd, error) {
	cmd := exec.Command("/proc/self/exe") //nolint:noctx // forwarder sends SIGTERM when the context ends
	cmd.Args = os.Args
	cmd.Stdin = os.Stdin
	cmd.Stdout = os.Stdout
	cmd.Stderr = os.Stderr

	// ExtraFiles would use descriptor 3, which can be the user's: -f <(command), -f /dev/fd/3.
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
	cmd.SysProcAttr = attr
	if !p.newUserNS() {
		return cmd, nil
	}

	// Before the ID maps are written the child is not root, and exec would drop the capabilities
	// that clone gave it. Ambient capabilities stay; Join removes them.
	attr.Cloneflags |= unix.CLONE_NEWUSER
	last, err := lastCap()
	if err != nil {
		return nil, err
	}
	for c := uintptr(0); c <= last; c++ {
		attr.AmbientCaps = append(attr.AmbientCaps, c)
	}
	return cmd, nil
}

// builderEnv returns env with the variables that tell go.podman.io/storage that the builder is
// rootless, and extra. In the mode Identity the variables of podman or buildah stay.
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

// startError returns a refusal if clone(2) failed, which is then the reason that the builder did
// not start.
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

// forwarder forwards signals, and the end of a context, to the builder.
type forwarder struct {
	signals     <-chan os.Signal
	builder     *os.Process
	ended       chan struct{}
	joined      atomic.Bool  // the builder is root and handles signals
	interrupted atomic.Int32 // the signal that killed the builder before it joined; 0: none
}

// run forwards signals until ended is closed.
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

// send sends a signal to the builder. A builder that has not joined is killed: it has nothing to
// clean up, and as PID 1 it ignores all other signals until the Go runtime has installed its
// handlers (pid_namespaces(7)).
func (f *forwarder) send(sig syscall.Signal) {
	if !f.joined.Load() {
		f.interrupted.Store(int32(sig))
		sig = unix.SIGKILL
	}
	_ = f.builder.Signal(sig) // fails if the builder has ended
}

// errUnjoined says that the builder closed the socket without a report.
var errUnjoined = errors.New("no report from the builder")

// handshake writes the ID maps, lets the builder continue and returns the error of its report.
func (l launcher) handshake(ctx context.Context, m mapper, builder int, socket *os.File) error {
	if err := m.write(ctx, builder); err != nil {
		return err
	}

	h := hello{
		Mode:       m.plan.Mode,
		UID:        l.standing.UID,
		GID:        l.standing.GID,
		PID:        l.options.PID,
		KeepGroups: l.options.KeepGroups,
		Warnings:   m.plan.Warnings,
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

// exitCode returns the exit code of the builder as a shell does.
func exitCode(state *os.ProcessState, err error) (int, error) {
	if state == nil {
		return 0, fmt.Errorf("waiting for the builder: %w", err)
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return state.ExitCode(), nil
}
