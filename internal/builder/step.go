package builder

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/internal/sparse"
)

// StepError says which instruction failed.
type StepError struct {
	File          string // the Dockerfile, or an included file; empty: the step is in no file
	Line, EndLine int    // in File, from 1
	Step          string // the instruction as written
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

// step is an instruction while it is carried out.
type step struct {
	*plan.Step
	show     *announcer
	progress *progress.Step
	clock    *clock
	reads    rootfs.Reads
	usage    *progress.Usage // of the process that a RUN has run
	cached   bool
	unkeyed  bool // the step has read files that differ from the files of its key
	notes    stepNotes
	ends     []func() error // in reverse order
}

// stepNotes are the warnings of a step, which are shown when it ends.
type stepNotes struct {
	first   []string // of the time before the files were made, cached or not
	files   notes    // about the files
	writing bool     // the files are being made: a remark is about them
	copied  sync.Map // int64 -> nil: sizes of the large sparse files that the step copies and has warned of
}

// remark adds a warning.
func (st *step) remark(text string) {
	if st.notes.writing {
		st.notes.files.Warnings = append(st.notes.files.Warnings, text)
		return
	}
	st.notes.first = append(st.notes.first, text)
}

// sparseSource warns at once about a large sparse file that the step copies, because the file is read for long.
func (st *step) sparseSource(source string, size, data int64) {
	st.notes.copied.Store(size, nil)
	st.show.warnAt(st.Step, sparse.Warning("source "+source, size, data))
}

// sparseFile warns about a large sparse file of the step's layer, while the layer is read. The copy of a source, which
// has the same size, needs no second warning. sparseFile returns the text, "" if there was no warning.
func (st *step) sparseFile(path string, size, data int64) string {
	if _, copied := st.notes.copied.Load(size); copied {
		return ""
	}
	text := sparse.Warning("/"+path, size, data)
	st.show.warnAt(st.Step, text)
	return text
}

// atEnd has end called when the step has ended, whatever the outcome.
func (st *step) atEnd(end func() error) { st.ends = append(st.ends, end) }

// finish calls the functions of atEnd.
func (st *step) finish() error {
	var errs []error
	for i := range st.ends {
		errs = append(errs, st.ends[len(st.ends)-1-i]())
	}
	return errors.Join(errs...)
}

// report tells the listener about the step.
func (st *step) report(kind progress.Kind, err error) {
	worked, waited := st.clock.times()
	st.show.listener.Event(progress.Event{
		Kind: kind, Step: st.progress, Time: time.Now(), Elapsed: worked, Waited: waited, Err: err, Usage: st.usage,
	})
}

// reportEnd tells how the step ended. A step that ctx stopped has not failed.
func (st *step) reportEnd(ctx context.Context, err error) {
	switch {
	case err != nil && ctx.Err() != nil:
		st.report(progress.StepStopped, nil)
	case err != nil:
		st.report(progress.StepFailed, err)
	case st.cached:
		st.report(progress.StepCached, nil)
	default:
		st.report(progress.StepDone, nil)
	}
}

// removedOr returns removed, the error of a layer that was removed, if there is one: it is the cause of err.
func removedOr(removed, err error) error {
	if removed != nil {
		return removed
	}
	return err
}
