package cli

import (
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/spec"
)

// timeFlags bound how long things may take.
type timeFlags struct {
	build   timeLimit
	step    timeLimit
	silence timeLimit
}

func (f *timeFlags) register(fs *pflag.FlagSet) {
	section(fs, SubjectLimits, func(fs *pflag.FlagSet) {
		fs.Var(&f.build, "timeout", "End the build after this time, e.g. 30m, 1h30m or 90 (seconds); 0: never")
		fs.Var(&f.step, "step-timeout", "End the build when a step takes longer, e.g. 10m; 0: never")
		fs.Var(&f.silence, "no-output-timeout",
			"End the build when a RUN prints nothing for this time, e.g. 5m; 0: never")
	})
}

func (f *timeFlags) parse(_ *Host, b *spec.Build) error {
	b.Time = spec.Time{
		Build:     time.Duration(f.build),
		BuildFrom: "--timeout",
		Step:      time.Duration(f.step),
		Silence:   time.Duration(f.silence),
	}
	return nil
}

// timeLimit is the value of a flag: a duration as Go writes it (1h30m), or a number of seconds as podman's --timeout takes
// it. 0 means no limit.
type timeLimit time.Duration

// Set implements pflag.Value.
func (t *timeLimit) Set(text string) error {
	d, err := time.ParseDuration(text)
	seconds, numErr := strconv.ParseUint(text, 10, 64)
	if numErr == nil && seconds <= math.MaxInt64/uint64(time.Second) {
		*t = timeLimit(time.Duration(seconds) * time.Second)
		return nil
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
