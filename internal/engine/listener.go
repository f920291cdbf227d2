package engine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/spec"
)

// report is where the events of a build go.
type report struct {
	to     progress.Listener
	finish func() error // restores the terminal and closes files; may be called more than once
}

// openReport opens the report that s asks for: by default a live view on a terminal, and lines elsewhere.
func openReport(s spec.Output, log *progress.Stream, env spec.Lookup) (report, error) {
	out := log
	finish := func() error { return nil }
	if s.LogFile.Path != "" {
		file, err := os.OpenFile(s.LogFile.Path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return report{}, fmt.Errorf("%s: %w", s.LogFile.From, err)
		}
		out = progress.NewStream(file, false)
		finish = sync.OnceValue(file.Close)
	}

	r := openProgress(s, out, finish, env)
	return addUsage(r, s)
}

func openProgress(s spec.Output, out *progress.Stream, finish func() error, env spec.Lookup) report {
	term, _ := env("TERM")
	noColor, _ := env("NO_COLOR")
	live := s.Progress == "tty" || (s.Progress == "auto" || s.Progress == "") && out.Terminal() && term != "dumb"
	switch {
	case s.Quiet || s.Progress == "quiet" || s.Progress == "none":
		return report{to: progress.Quiet(out.Steps()), finish: finish}
	case s.Progress == "rawjson":
		return report{to: progress.JSON(out), finish: finish}
	case live:
		t := progress.Terminal(out.Raw(), progress.TerminalOptions{NoColor: noColor != ""})
		return report{to: t, finish: sync.OnceValue(func() error { return errors.Join(t.Close(), finish()) })}
	}
	return report{to: progress.Plain(out.Steps()), finish: finish}
}

// addUsage adds one line a step, with the time and the resources of the step, to a report or to a file of its own.
func addUsage(r report, s spec.Output) (report, error) {
	switch {
	case s.UsageFile.Path != "":
		file, err := os.OpenFile(s.UsageFile.Path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644) //nolint:gosec // as public as the image
		if err != nil {
			return r, errors.Join(fmt.Errorf("%s: %w", s.UsageFile.From, err), r.finish())
		}
		both := sync.OnceValue(func() error { return errors.Join(r.finish(), file.Close()) })
		return report{to: &usageLog{to: r.to, out: file}, finish: both}, nil
	case s.Usage && !s.Quiet:
		return report{to: &usageLog{to: r.to, out: notices{r.to}}, finish: r.finish}, nil
	}
	return r, nil
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

// usageLine returns the line of one step, for example "[build 2/3] RUN make: 1.2s, cpu 0.80s, memory 12.3 MiB".
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

// notices turns lines of text, about a pull or a push, into events.
type notices struct{ to progress.Listener }

func (n notices) Write(p []byte) (int, error) {
	n.to.Event(progress.Event{Kind: progress.Notice, Text: strings.TrimRight(string(p), "\n")})
	return len(p), nil
}

func warn(to progress.Listener, text string) {
	to.Event(progress.Event{Kind: progress.Warning, Text: text})
}
