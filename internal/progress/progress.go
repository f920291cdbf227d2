// Package progress shows what a build does: events go in from any goroutine, text comes out for a terminal, a log, a
// program, or next to nothing.
//
//	show := progress.Plain(os.Stderr)
//	show.Event(progress.Event{Kind: progress.StepStarted, Step: step, Time: time.Now()})
//	out := progress.StepWriter(show, step)     // stdout and stderr of what the step runs
//
// A step is known by its pointer: all events of one step carry the same *Step. A listener keeps a bounded part of each
// step's output (none, or the last 64 KiB), however long it or one of its lines gets. Errors of the writer below are
// ignored: a build does not fail because nobody can read along.
//
// Plain passes output bytes through unchanged. What comes from a Dockerfile is shown with control characters escaped,
// and the live view of a terminal also removes them from the output, so that neither can reprogram the terminal there.
package progress

import "time"

// Kind says what an Event tells.
type Kind int

// The kinds of events. Those that begin with Step need Event.Step.
const (
	// StepStarted opens a step.
	StepStarted Kind = iota + 1
	// StepOutput carries bytes that the step wrote, in Data.
	StepOutput
	// StepCached tells that a step needs not run: its result was there. It closes the step, started or not.
	StepCached
	// StepDone closes a step that succeeded.
	StepDone
	// StepFailed closes a step that failed, with the reason in Err.
	StepFailed
	// StepStopped closes a step that was ended because another failed, or the build was interrupted.
	StepStopped
	// Notice is a line for the user, in Text.
	Notice
	// Warning is a line about something that is probably not what the user wants, in Text.
	Warning
)

// kindNames are the values of "kind" in JSON lines: do not change them.
var kindNames = [...]string{
	StepStarted: "started", StepOutput: "output", StepCached: "cached", StepDone: "done", StepFailed: "failed",
	StepStopped: "stopped", Notice: "notice", Warning: "warning",
}

// String returns the name that JSON lines use, "unknown" for other values.
func (k Kind) String() string {
	if k < StepStarted || int(k) >= len(kindNames) {
		return "unknown"
	}
	return kindNames[k]
}

// Step is one instruction of a stage. It must not change after its first event.
type Step struct {
	// Stage is the stage's name, or its number as text; empty when the Dockerfile has a single unnamed stage.
	Stage string
	// Number counts from 1 to Total within the stage.
	Number, Total int
	// Text is the instruction on one line, e.g. "RUN make".
	Text string
	// File and Line are where it stands; empty and 0: unknown.
	File string
	Line int
}

// Event is something that happened.
type Event struct {
	Kind Kind
	// Step is nil for notices and warnings about the build as a whole.
	Step *Step
	// Time is when it happened; zero: now.
	Time time.Time
	// Elapsed is how long a step worked; zero: the time since its StepStarted.
	Elapsed time.Duration
	// Waited is how long a step waited for others beside that: for a stage, a pull, a lock, a slot.
	Waited time.Duration
	// Data is valid only during the call: whole lines, or a part of a line that is too long to be held back.
	Data []byte
	// Text is one line without newline, or several.
	Text string
	Err  error
	// Usage is what a step used that ran a program and is closed now; nil: it ran none.
	Usage *Usage
}

// Listener receives events. It is safe for concurrent use.
type Listener interface {
	Event(e Event)
}

// clock remembers when steps started, to know how many run and for how long.
type clock map[*Step]time.Time

// note records the event's part in the life of its step, and fills in Time and Elapsed.
func (c clock) note(e Event) Event {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if e.Step == nil {
		return e
	}

	switch e.Kind {
	case StepStarted:
		c[e.Step] = e.Time
	case StepCached, StepDone, StepFailed, StepStopped:
		if began, ok := c[e.Step]; ok && e.Elapsed == 0 {
			e.Elapsed = e.Time.Sub(began)
		}
		delete(c, e.Step)
	case StepOutput, Notice, Warning:
	}

	return e
}
