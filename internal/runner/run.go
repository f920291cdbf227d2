package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"codeberg.org/rbuild/rbuild/internal/kernel/cgroup"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/internal/progress"
)

// Runner runs processes with the same options. It is safe for concurrent use.
type Runner struct {
	Options
	scratch string
	host    func() etcFiles
	filter  func() (*sandbox.Filter, error)
}

// New returns a Runner. scratch is a directory that all processes share, on the file system of
// their upper directories; the caller removes the directory afterwards.
func New(o Options, scratch string) *Runner {
	return &Runner{
		Options: o, scratch: scratch,
		host:   sync.OnceValue(hostFiles),
		filter: sync.OnceValues(o.Security.usualFilter),
	}
}

// Result is how a process ended. After an error the fields that are known are set.
type Result struct {
	State sandbox.State
	Usage *progress.Usage // nil: the process was not started
	// Degraded has one line for each thing that was set up in a lesser way than usual. The lines
	// are the same for all processes on the same machine.
	Degraded []string
	// Warnings has one line for each limit that a successful process reached.
	Warnings []string
}

// Run runs a process and waits for its end. A process that fails is an *ExitError. If ctx ends, the
// process is killed, and the error is the cause of ctx. All processes that the process leaves in
// the background are killed, too.
func (r *Runner) Run(ctx context.Context, p Process) (result Result, err error) {
	user, err := r.user(p.Command, p.Root)
	if err != nil {
		return Result{}, err
	}
	list, err := r.layout(p.Command, r.etc(r.host(), p.Command))
	if err != nil {
		return Result{}, err
	}

	ms := &mounts{
		options: &r.Options, root: p.Root, shared: r.scratch, sources: map[string]*os.File{},
	}
	defer func() { err = errors.Join(err, ms.close()) }()
	if err := ms.open(ctx, list, p.Caches); err != nil {
		return Result{}, err
	}

	spec, err := r.document(p.Command, user, ms.spec())
	if err != nil {
		return Result{}, err
	}
	debugSpec(spec)

	config := sandbox.Config{
		Spec:        spec,
		Root:        p.Root.Overlay,
		Stubs:       r.scratch + "/stubs",
		Sources:     ms.sources,
		Streams:     sandbox.Streams{Stdin: r.Stdin},
		IDs:         sandbox.IDs{UIDs: r.Security.UIDs, GIDs: r.Security.GIDs, KeepGroups: r.Security.KeepGroups},
		CgroupNames: r.Security.CgroupNames,
	}
	if err := r.confine(&config, p.Command); err != nil {
		return Result{}, err
	}

	return r.execute(ctx, config, p)
}

// confine sets the network and the system call filter.
func (r *Runner) confine(config *sandbox.Config, c Command) (err error) {
	switch r.Network.of(c) {
	case None:
		config.Network = sandbox.None
	case Private:
		config.Network, config.NetworkHelper = sandbox.Private, r.Network.Helper
	case Host:
		config.Network = sandbox.Host
	}

	// IDs of real root's processes are the machine's: by the paths that are hidden below /proc they
	// would be root of it.
	caps := config.Spec.Process.Capabilities.Bounding
	config.LockMounts = r.Trusted && slices.Contains(caps, "CAP_SYS_ADMIN")

	switch {
	case !c.Insecure:
		config.Filter, err = r.filter()
	case r.Security.Seccomp != nil:
		config.Filter, err = r.Security.filter(caps)
	}
	return err
}

// execute starts the process, passes its output on and waits for its end.
func (r *Runner) execute(ctx context.Context, config sandbox.Config, p Process) (result Result, err error) {
	out, in, err := os.Pipe()
	if err != nil {
		return Result{}, fmt.Errorf("making a pipe: %w", err)
	}
	config.Stdout, config.Stderr = in, in

	group, err := r.group(ctx)
	if err != nil {
		return Result{}, errors.Join(err, in.Close(), out.Close())
	}
	if group != nil {
		config.Cgroup = group
		defer func() { err = errors.Join(err, group.Remove()) }()
	}

	ctx, heard, done := r.Limits.Silence.watch(ctx, p.Output)
	defer done()

	process, err := r.start(ctx, config, p.Command)
	err = errors.Join(err, in.Close())
	if err != nil {
		return Result{}, errors.Join(r.startError(err, &config, p.Command), out.Close())
	}
	result.Degraded = process.Degraded

	copied := make(chan error, 1)
	said := &complaints{to: heard}
	go func() {
		_, err := io.Copy(said, out)
		copied <- errors.Join(err, out.Close())
	}()

	stop := context.AfterFunc(ctx, func() { _ = process.Kill() }) // it may have ended just now
	defer stop()

	result.State, err = process.Wait()

	// Every process that held the pipe open was killed with the process, so the copy ends.
	err = errors.Join(err, <-copied)
	var limit reached
	result.Usage, limit = usageOf(result.State, group)
	if cause := context.Cause(ctx); cause != nil {
		return result, errors.Join(cause, err)
	}

	if failed := exitError(result.State, limit); failed != nil {
		failed.Hint = r.hint(failed, &config, p.Command, said.all())
		return result, errors.Join(failed, err)
	}
	result.Warnings = limit.warnings()
	return result, err
}

// group makes the cgroup of a process; nil: there is none.
func (r *Runner) group(ctx context.Context) (*cgroup.Group, error) {
	if r.Limits.NewCgroup == nil {
		return nil, nil //nolint:nilnil // documented
	}
	return r.Limits.NewCgroup(ctx)
}

// start starts the process. If the kernel cannot execute the program and the image is for another
// architecture, start tries again with an emulator. An image that says another architecture than
// its programs have needs no emulator.
func (r *Runner) start(ctx context.Context, config sandbox.Config, c Command) (*sandbox.Process, error) {
	process, err := sandbox.Start(config) //nolint:contextcheck // its start is bounded; ctx ends the process later
	failed, ok := errors.AsType[*sandbox.ExecError](err)
	if !ok {
		return process, err
	}
	if c.Platform.OS != "" && c.Platform.OS != r.Machine.OS {
		return nil, &ExitError{Code: notExecuted, Err: fmt.Errorf("programs for %s cannot be executed on %s", c.Platform.OS, r.Machine.OS)}
	}

	architecture := c.Platform.Architecture
	if !failed.NoHandler() || architecture == "" || architecture == r.Machine.Architecture || r.Emulators == nil {
		return nil, err
	}
	if err := r.Emulators.Ensure(ctx, architecture, r.scratch); err != nil {
		return nil, &ExitError{Code: notExecuted, Err: err}
	}
	return sandbox.Start(config) //nolint:contextcheck // as above
}

// startError gives a program that could not be executed the exit code of a shell.
func (r *Runner) startError(err error, config *sandbox.Config, c Command) error {
	exec, ok := errors.AsType[*sandbox.ExecError](err)
	if !ok {
		return explain(err, r.scratch, r.Trusted)
	}

	e := &ExitError{Code: exec.ExitCode(), Err: err}
	switch {
	case exec.TooLong():
		e.Hint = tooLong(config.Spec.Process)
	case exec.NoHandler():
		e.Hint = diagnose(config, c, diagnosis.notExecuted)
	}
	return e
}

// hint returns the likely reason why the process failed.
func (r *Runner) hint(e *ExitError, config *sandbox.Config, c Command, complaints []string) string {
	if e.Killed || e.Signal != "" || e.Limit != "" {
		return ""
	}
	if reason := r.Etc.explainEtc(c, complaints); reason != "" {
		return reason
	}

	// A shell has these codes for a program that it cannot execute, and 2 for a script that it
	// cannot read.
	if e.Code != notExecuted && e.Code != notFound && e.Code != 2 {
		return ""
	}
	return diagnose(config, c, func(d diagnosis) string { return d.failed(complaints) })
}
