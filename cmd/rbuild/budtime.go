package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/builder"
)

// timeFlags say how long things may take.
type timeFlags struct {
	build   timeLimit
	step    timeLimit
	silence timeLimit
}

func (f *timeFlags) register(fs *pflag.FlagSet) {
	fs.Var(&f.build, "timeout", "end the build after this time, e.g. 30m, 1h30m or 90 (seconds); 0: never")
	fs.Var(&f.step, "step-timeout", "end the build when a step takes longer; 0: never")
	fs.Var(&f.silence, "no-output-timeout", "end the build when a RUN prints nothing for that long; 0: never")
}

func (f *timeFlags) apply(_ lookup, o *builder.Options) error {
	o.Limits.Step, o.Limits.Silence = time.Duration(f.step), time.Duration(f.silence)
	return nil
}

// within does something for as long as the build may take.
func (f *timeFlags) within(ctx context.Context, do func(context.Context) error) error {
	if d := time.Duration(f.build); d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d, &builder.TimeoutError{What: "the build ran longer than", Limit: d, Flag: "--timeout"})
		defer cancel()
	}
	return timeCode(ctx, do(ctx))
}

// exitTimeout is the exit code of a build that took too long, as timeout(1) has it.
const exitTimeout = 124

// timeCode gives the error of a build that took too long its exit code. ctx is the build's.
func timeCode(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if limit := builder.Because(ctx, err); !errors.Is(err, limit) {
		err = fmt.Errorf("%w: %w", limit, err)
	}
	if errors.As(err, new(*builder.TimeoutError)) {
		return &exitError{code: exitTimeout, err: err}
	}
	return err
}

// timeLimit is a flag: a duration as Go writes it, or a number of seconds as podman's --timeout takes it; 0: none.
type timeLimit time.Duration

// Set implements pflag.Value.
func (t *timeLimit) Set(text string) error {
	d, err := time.ParseDuration(text)
	if seconds, numErr := strconv.ParseUint(text, 10, 64); numErr == nil && seconds <= math.MaxInt64/uint64(time.Second) {
		d, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || d < 0 {
		return errors.New("want a duration, e.g. 90s, 30m or 1h30m, or a number of seconds")
	}
	*t = timeLimit(d)
	return nil
}

// String implements pflag.Value.
func (t *timeLimit) String() string { return time.Duration(*t).String() }

// Type implements pflag.Value.
func (t *timeLimit) Type() string { return "duration" }
