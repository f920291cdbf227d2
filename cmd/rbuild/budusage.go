package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/progress"
)

// usageFlags select the file for one line a step, with the time and the resources of the step.
type usageFlags struct {
	on   bool
	file string
}

func (f *usageFlags) register(fs *pflag.FlagSet) {
	fs.BoolVar(&f.on, "log-rusage", false, "print a line with the time and the resources of each step")
	fs.StringVar(&f.file, "rusage-logfile", "", "write the lines of --log-rusage to this file instead")
}

// listener returns a listener that passes events to the listener to and writes the lines. The returned function calls
// finish and closes the file of the lines.
func (f *usageFlags) listener(
	to progress.Listener, finish func() error, quiet bool,
) (progress.Listener, func() error, error) {
	switch {
	case f.file != "":
		file, err := os.OpenFile(f.file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644) //nolint:gosec // as public as the image
		if err != nil {
			return to, finish, fmt.Errorf("--rusage-logfile: %w", err)
		}
		both := sync.OnceValue(func() error { return errors.Join(finish(), file.Close()) })
		return &usageLog{to: to, out: file}, both, nil
	case f.on && !quiet:
		return &usageLog{to: to, out: notices{to}}, finish, nil
	}

	return to, finish, nil
}

// usageLog writes a line for each step that has ended, and passes all events on.
type usageLog struct {
	to  progress.Listener
	out io.Writer
}

// Event implements progress.Listener.
func (l *usageLog) Event(e progress.Event) {
	l.to.Event(e)
	ended := []progress.Kind{progress.StepDone, progress.StepFailed, progress.StepStopped, progress.StepCached}
	if slices.Contains(ended, e.Kind) {
		_, _ = fmt.Fprintln(l.out, usageLine(e)) // a full disk is no reason to end the build
	}
}

// usageLine is the line of one step: "[build 2/3] RUN make: 1.2s, cpu 0.80s, memory 12.3 MiB".
func usageLine(e progress.Event) string {
	took := e.Elapsed.Round(time.Millisecond)
	line := fmt.Sprintf("[%d/%d] %s: %s", e.Step.Number, e.Step.Total, progress.Lines(e.Step.Text), took)
	if e.Step.Stage != "" {
		line = fmt.Sprintf("[%s %s", progress.Lines(e.Step.Stage), line[1:])
	}
	if e.Usage != nil {
		line += ", " + e.Usage.String()
	}
	return line
}
