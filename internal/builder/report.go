package builder

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/progress"
)

// StepError says which instruction failed.
type StepError struct {
	File          string // the Dockerfile, or the one of several; empty: the step stands in none
	Line, EndLine int    // of it, from 1
	Step          string
	Err           error
}

func (e *StepError) Error() string {
	if e.File == "" {
		return fmt.Sprintf("%s: %v", e.Step, e.Err)
	}
	return fmt.Sprintf("%s:%d: %s: %v", e.File, e.Line, e.Step, e.Err)
}
func (e *StepError) Unwrap() error { return e.Err }

// at names the instruction in an error, once.
func at(step *plan.Step, err error) error {
	var named *StepError
	if err == nil || errors.As(err, &named) && named.File != "" || errors.Is(err, context.Canceled) {
		return err
	}
	return &StepError{File: step.File, Line: step.Line, EndLine: step.EndLine, Step: step.Text, Err: err}
}

// report tells the listener of one step.
type report struct {
	listener progress.Listener
	step     *progress.Step
	clock    *stepClock
	cached   bool
	usage    *progress.Usage // of the program that the step has run
}

func (s *stage) report(step *plan.Step, clock *stepClock) *report {
	name := s.plan.Name
	if name == "" && len(s.Plan.Stages) > 1 {
		name = strconv.Itoa(s.plan.Index)
	}
	return &report{listener: s.Listener, clock: clock, step: &progress.Step{
		Stage: name, Number: s.number, Total: s.total, Text: step.Text, File: step.File, Line: step.Line,
	}}
}

// begin tells that the step has to be run; steps that are cached, or edit the config only, are told of when they end.
func (r *report) begin() { r.event(progress.StepStarted, nil) }

func (r *report) event(kind progress.Kind, err error) {
	worked, waited := r.clock.times()
	r.listener.Event(progress.Event{
		Kind: kind, Step: r.step, Time: time.Now(), Elapsed: worked, Waited: waited, Err: err, Usage: r.usage,
	})
}

// end tells how the step ended. A step that ctx stopped has not failed.
func (r *report) end(ctx context.Context, err error) {
	switch {
	case err != nil && ctx.Err() != nil:
		r.event(progress.StepStopped, nil)
	case err != nil:
		r.event(progress.StepFailed, err)
	case r.cached:
		r.event(progress.StepCached, nil)
	default:
		r.event(progress.StepDone, nil)
	}
}
