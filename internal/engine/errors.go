package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/doctor/probe"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/runner"
	"codeberg.org/rbuild/rbuild/internal/spec"
)

// exitTimeout is the exit code of a build that exceeded a time limit, as timeout(1) has it.
const exitTimeout = 124

// ExitCode returns the exit code that an error of a build decides: the code of a failed RUN, as buildah does, or 124 for an
// exceeded time limit.
func ExitCode(err error) (code int, ok bool) {
	if errors.As(err, new(*builder.TimeoutError)) {
		return exitTimeout, true
	}
	var run *runner.ExitError
	if errors.As(err, &run) && run.Code != 0 {
		return run.Code, true
	}
	return 0, false
}

// within calls do with a context that ends when the build takes too long.
func within(ctx context.Context, s spec.Time, do func(context.Context) error) error {
	if s.Build > 0 {
		cause := &builder.TimeoutError{What: "the build ran longer than", Limit: s.Build, Flag: s.BuildFrom}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.Build, cause)
		defer cancel()
	}
	return timeoutCause(ctx, do(ctx))
}

// timeoutCause adds the exceeded time limit to an error, if that ended ctx: libraries report only a canceled context.
func timeoutCause(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if limit := builder.Because(ctx, err); !errors.Is(err, limit) {
		return fmt.Errorf("%w: %w", limit, err)
	}
	return err
}

// DoctorOptions returns where builds write to and look for programs.
func (e *Engine) DoctorOptions() probe.Options {
	path, _ := e.Env("PATH")
	o := probe.Options{Temp: os.TempDir(), Path: path, Trusted: e.trusted()}
	o.Store, o.RunRoot, o.StoreErr = containers.Locate(e.Store)
	return o
}

// Explain adds to an error the facility that the host lacks, if that is the cause.
func (e *Engine) Explain(err error) error {
	if err == nil || errors.Is(err, ErrFindings) {
		return err
	}
	to := (*os.PathError)(nil)
	if errors.As(err, &to) && slices.Contains([]string{e.Stdout.Name(), stdoutName}, to.Path) {
		return err // standard output is full, and not the store
	}
	return probe.Explain(err, e.DoctorOptions())
}

// explainStep explains the error of a step. A command reports a full file system only in its output.
func (e *Engine) explainStep(err error) error {
	if _, ok := errors.AsType[*runner.ExitError](err); ok {
		return probe.ExplainFull(err, e.DoctorOptions())
	}
	return e.Explain(err)
}
