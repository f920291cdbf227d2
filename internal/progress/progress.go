// Package progress shows the progress of a build. A build sends events from any goroutine to a
// listener, which writes text for a terminal ([Terminal]), a log ([Plain]) or a program ([JSON]),
// or writes failures only ([Quiet]).
//
//	show := progress.Plain(os.Stderr)
//	show.Event(progress.Event{Kind: progress.StepStarted, Step: step})
//	out := progress.StepWriter(show, step) // standard output and error of the step's process
//
// A listener identifies a step by its pointer: all events of a step carry the same *Step. Of each
// step's output a listener keeps at most the last 64 KiB. Errors of writing are ignored: a build
// does not fail because nobody reads its progress.
//
// Plain passes the bytes of output through unchanged. Text of a Dockerfile is shown with control
// characters escaped. The live view of a terminal also removes control characters from output. So
// neither can steer the terminal.
package progress

import "time"

// Kind is the kind of an Event.
type Kind int

// The kinds of events. Kinds that begin with Step need Event.Step.
const (
	// StepStarted opens a step.
	StepStarted Kind = iota + 1
	// StepOutput carries bytes that the step wrote, in Data.
	StepOutput
	// StepCached closes a step whose result was in the cache. The step need not have started.
	StepCached
	// StepDone closes a step that succeeded.
	StepDone
	// StepFailed closes a step that failed, with the reason in Err.
	StepFailed
	// StepStopped closes a step that was stopped because another step failed, or because the build
	// was interrupted.
	StepStopped
	// Notice is a line for the user, in Text.
	Notice
	// Warning is a line about a probable mistake of the user, in Text.
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

// Step is an instruction of a stage. A Step must not change after its first event.
type Step struct {
	// Stage is the stage's name, or its number as text; empty when the Dockerfile has a single
	// unnamed stage.
	Stage string
	// Number counts from 1 to Total within the stage.
	Number, Total int
	// Text is the instruction on one line, for example "RUN make".
	Text string
	// File and Line are the place of the instruction; empty and 0: unknown.
	File string
	Line int
}

// Event is something that happened.
type Event struct {
	Kind Kind
	// Step is nil for notices and warnings about the build as a whole.
	Step *Step
	// Time is the time of the event; zero: now.
	Time time.Time
	// Elapsed is the time for which a closed step worked; zero: the time since its StepStarted.
	Elapsed time.Duration
	// Waited is the time for which a closed step waited, beside Elapsed: for a stage, a pull, a
	// lock, a slot.
	Waited time.Duration
	// Data is output of a step: whole lines, or a part of a line that is longer than 64 KiB. It is
	// valid only during the call.
	Data []byte
	// Text is one or more lines, without the last newline.
	Text string
	Err  error
	// Usage is the use of the machine by a closed step; nil: the step ran no program.
	Usage *Usage
}

// Listener receives events. A Listener is safe for concurrent use.
type Listener interface {
	Event(e Event)
}

// clock has the start times of the running steps.
type clock map[*Step]time.Time

// note records the start or the end of a step, and fills in Time and Elapsed of the event.
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
