package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/internal/passwd"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

// ExitError says how the command of a RUN ended.
type ExitError struct {
	Code   int    // as a shell has it: 128 + n for signal n, 126 and 127 for a program that could not be executed
	Signal string // "signal 9 (killed)"; empty if it exited
	Err    error  // why it could not be executed; nil if it was
	Limit  string // "memory limit 64 MiB reached"; empty if none was
	Killed bool   // by the kernel, for that limit
	Hint   string // the likely reason and what to do; empty: none is known
}

func (e *ExitError) Error() string {
	if e.Hint != "" {
		return e.how() + "; " + e.Hint
	}
	return e.how()
}

// how says how the command ended.
func (e *ExitError) how() string {
	if e.Err != nil {
		return e.Err.Error()
	}

	switch {
	case e.Killed && e.Signal != "":
		return "RUN killed: " + e.Limit
	case e.Killed:
		return fmt.Sprintf("RUN killed: %s (exit status %d)", e.Limit, e.Code)
	case e.Signal != "":
		return "killed by " + e.Signal
	case e.Limit != "":
		return fmt.Sprintf("exit status %d: %s", e.Code, e.Limit)
	}

	return fmt.Sprintf("exit status %d", e.Code)
}

func (e *ExitError) Unwrap() error { return e.Err }

// runStep runs RUN.
func (s *stage) runStep(ctx context.Context, step *plan.Step, op *plan.Run, r *report) (err error) {
	if err := s.Run.refuse(op); err != nil {
		return err
	}

	sources, err := s.mountSources(ctx, op)
	defer func() { err = errors.Join(err, sources.close()) }()
	if err != nil {
		return err
	}

	content := append(sources.content(), volumeContent(s.compatVolumes())...)
	return s.files(ctx, step, content, r, func(ctx context.Context, u upper) (bool, error) {
		if err := s.runIn(ctx, u, op, sources, r); err != nil {
			return false, err
		}
		s.duplicates(ctx, step, op, u)
		return true, s.sourcesUnchanged(ctx, step, sources)
	})
}

// runIn runs the command with the step's upper directory under it.
func (s *stage) runIn(ctx context.Context, u upper, op *plan.Run, sources mountSources, r *report) (err error) {
	user, err := s.user(op.User)
	if err != nil {
		return err
	}
	if user.Groups, err = s.groups(user); err != nil {
		return err
	}

	files, err := s.runFiles(u, op)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll(files)) }()

	mounts, err := s.makeMounts(ctx, u, op, files, sources)
	defer func() { err = errors.Join(err, mounts.close()) }()
	if err != nil {
		return err
	}

	config := sandbox.Config{
		Spec:  s.spec(op, user, files, mounts),
		Root:  overlay.Mount{Lowers: s.reads.lowers(s.snapshot), Upper: u.Upper, Work: u.work, Trusted: s.Trusted},
		Stubs: s.scratch.Dir + "/stubs", Sources: map[string]*os.File{},
	}

	for _, f := range files {
		config.Sources[f.dest] = f.file
	}
	for _, v := range s.Run.Volumes {
		config.Sources[v.Dest] = v.Source
	}
	for _, d := range s.Run.Devices {
		config.Sources[d.Dest] = d.Source
	}
	maps.Copy(config.Sources, mounts.sources)
	s.connect(&config, s.Run.network(op))
	if err := s.confine(&config, op); err != nil {
		return err
	}

	debugSpec(config.Spec)

	return s.execute(ctx, config, op, r)
}

// execute starts the process, passes its output on and waits for its end. If ctx ends, the process is killed.
func (s *stage) execute(ctx context.Context, config sandbox.Config, op *plan.Run, r *report) (err error) {
	out, in, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("making a pipe: %w", err)
	}

	config.Stdin, config.Stdout, config.Stderr = s.Run.Stdin, in, in
	group, err := s.Run.cgroup(ctx)
	if err != nil {
		return errors.Join(err, in.Close(), out.Close())
	}
	defer func() { err = errors.Join(err, group.remove()) }()

	group.attach(&config)
	w := progress.StepWriter(r.listener, r.step)
	ctx, heard, done := s.listen(ctx, w)
	defer done()

	process, err := s.start(ctx, config)
	err = errors.Join(err, in.Close())
	if err != nil {
		return errors.Join(s.startError(err, &config, op), out.Close())
	}

	for _, d := range process.Degraded {
		s.warnOnce(d)
	}
	copied := make(chan error, 1)
	said := &complaints{to: heard}
	go func() {
		_, err := io.Copy(said, out)
		copied <- errors.Join(err, w.Close(), out.Close())
	}()

	stop := context.AfterFunc(ctx, func() { _ = process.Kill() }) // it may have ended just now
	defer stop()

	state, err := process.Wait()

	// What held the pipe open was killed with the process, so the copy ends.
	err = errors.Join(err, <-copied)
	reached := group.account(state, r)
	if cause := context.Cause(ctx); cause != nil {
		return errors.Join(cause, err)
	}

	failed := s.exitError(state, reached)
	if exit, ok := errors.AsType[*ExitError](failed); ok {
		exit.Hint = s.hint(exit, &config, op, said.all())
	}

	return errors.Join(failed, err)
}

// startError gives a program that could not be executed the exit code of a shell.
func (s *stage) startError(err error, config *sandbox.Config, op *plan.Run) error {
	exec, ok := errors.AsType[*sandbox.ExecError](err)
	if !ok {
		return s.explain(err)
	}
	e := &ExitError{Code: exec.ExitCode(), Err: err}
	if exec.TooLong() {
		e.Hint = tooLong(config.Spec.Process)
	} else if exec.NoHandler() {
		e.Hint = diagnose(config, op, diagnosis.notExecuted)
	}
	return e
}

// hint returns the likely reason why the command has failed.
func (s *stage) hint(e *ExitError, config *sandbox.Config, op *plan.Run, complaints []string) string {
	if e.Killed || e.Signal != "" || e.Limit != "" {
		return ""
	}
	if reason := s.Run.writtenEtc(op, complaints); reason != "" {
		return reason
	}

	// A shell has these codes for a program that it cannot execute, and 2 for a script that it cannot read.
	if e.Code != notExecuted && e.Code != notFound && e.Code != 2 {
		return ""
	}
	return diagnose(config, op, func(d diagnosis) string { return d.failed(complaints) })
}

// exitError tells of a program that failed, and which limit it reached. One that did not fail gives a warning.
func (s *stage) exitError(state sandbox.State, l reached) error {
	e := &ExitError{Code: state.ExitCode, Limit: l.text, Killed: l.killed}
	switch {
	case state.Signal != 0:
		e.Code, e.Signal = 128+int(state.Signal), fmt.Sprintf("signal %d (%v)", int(state.Signal), state.Signal)
	case state.ExitCode != 0:
	case l.killed:
		s.remark("a process was killed, and the step has succeeded: " + l.text)
		return nil
	case l.text != "":
		s.remark("the step has succeeded, but " + l.text)
		return nil
	default:
		return nil
	}

	return e
}

// spec describes the process: docker's defaults, and what the step asks for.
func (s *stage) spec(op *plan.Run, user passwd.User, files []runFile, mounts *stepMounts) *specs.Spec {
	spec := sandbox.DefaultSpec()
	p := spec.Process
	p.Args, p.Env, p.Cwd = op.Argv, withHome(mounts.environ(op.Env), user.Home), path.Join("/", op.Dir)
	p.User = specs.User{UID: user.UID, GID: user.GID, AdditionalGids: user.Groups}
	spec.Hostname = hostname(op)
	spec.Root = &specs.Root{Path: "rootfs"}
	spec.Mounts = append(s.Run.mounts(spec.Mounts), mounts.list[:mounts.volumes]...)
	for _, f := range files {
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: f.dest, Type: "bind", Source: f.file.Name(), Options: f.options})
	}
	for _, v := range s.Run.Volumes {
		m := specs.Mount{Destination: v.Dest, Type: "bind", Source: v.Source.Name(), Options: []string{"rbind", "rw"}}
		if v.ReadOnly {
			m.Options[1] = "ro"
		}
		m.Options = append(m.Options, v.Options...)
		if fdfs.IsDevice(v.Source) && !slices.Contains(v.Options, "nodev") { // the command line names the device, as with --device
			m.Options = append(m.Options, "dev")
		}
		spec.Mounts = append(spec.Mounts, m)
	}

	// A mount of the Dockerfile takes the place of one of the builder's files or the user's volumes.
	spec.Mounts = slices.DeleteFunc(spec.Mounts, func(m specs.Mount) bool { return mounts.replaces(m) })
	spec.Mounts = append(spec.Mounts, mounts.list[mounts.volumes:]...)

	return spec
}

// withHome adds HOME unless the environment has it.
func withHome(env []string, home string) []string {
	for _, e := range env {
		if strings.HasPrefix(e, "HOME=") {
			return env
		}
	}
	return append(append([]string{}, env...), "HOME="+home)
}

// connect sets the network of the process.
func (s *stage) connect(c *sandbox.Config, network Network) {
	switch network {
	case None:
		c.Network = sandbox.None
	case Private:
		c.Network, c.NetworkHelper = sandbox.Private, s.Run.NetworkHelper
	case Host:
		c.Network = sandbox.Host
	}
}

// runFile is a small file that is bound into a RUN.
type runFile struct {
	dest    string
	file    *os.File
	options []string
}

// runFiles creates the files beside the upper directory, with which they are removed. The files of /etc are read-only, because
// data that a step wrote to them would be lost silently.
func (s *stage) runFiles(u upper, op *plan.Run) (files []runFile, err error) {
	etc := s.Run.etc(s.host, s.Run.network(op), hostname(op))
	add := func(name, dest string, data []byte, mode os.FileMode, options ...string) {
		if err != nil {
			return
		}
		var f *os.File
		if f, err = makeFile(path.Join(u.Dir, name), data, mode); err == nil {
			files = append(files, runFile{dest, f, append(options, "bind")})
		}
	}

	if !s.Run.NoHosts {
		add("hosts", hostsFile, etc.hosts, 0o644, "ro")
	}
	if !s.Run.NoResolver {
		add("resolv.conf", resolverFile, etc.resolv, 0o644, "ro")
	}
	if !s.Run.NoHostname {
		add("hostname", hostnameFile, etc.hostname, 0o644, "ro")
	}
	for i, f := range op.Files {
		add(fmt.Sprintf("pipe%d", i), path.Join(plan.PipesDir, f.Name), f.Data, 0o755, "ro")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making the files that RUN sees: %w", err), closeAll(files))
	}

	return files, nil
}

// makeFile leaves no descriptor that is open for writing, with which a script could not be executed (ETXTBSY).
func makeFile(name string, data []byte, mode os.FileMode) (*os.File, error) {
	if err := os.WriteFile(name, data, mode); err != nil {
		return nil, err
	}
	return os.Open(name)
}

func closeAll(files []runFile) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.file.Close())
	}
	return errors.Join(errs...)
}

// debugSpec logs the runtime-spec document of a process, without the values of its environment: they may be proxies'
// passwords.
func debugSpec(spec *specs.Spec) {
	if !logrus.IsLevelEnabled(logrus.DebugLevel) {
		return
	}

	shown, process := *spec, *spec.Process
	process.Env = make([]string, len(spec.Process.Env))
	for i, e := range spec.Process.Env {
		name, _, _ := strings.Cut(e, "=")
		process.Env[i] = name + "=..."
	}

	shown.Process = &process
	text, err := json.Marshal(shown)
	logrus.Debugf("RUN: %s (%v)", text, err)
}
