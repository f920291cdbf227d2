package builder

import (
	"sync"
	"time"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/sparse"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// announcer passes warnings and notices to the listener.
type announcer struct {
	listener progress.Listener
	file     *instructions.File
	shown    sync.Map // texts of warnOnce
}

func newAnnouncer(l progress.Listener, f *instructions.File) *announcer {
	return &announcer{listener: l, file: f}
}

func (a *announcer) warn(text string) {
	a.listener.Event(progress.Event{Kind: progress.Warning, Time: time.Now(), Text: text})
}

func (a *announcer) notice(text string) {
	a.listener.Event(progress.Event{Kind: progress.Notice, Time: time.Now(), Text: text})
}

// warnOnce shows a warning that several steps have.
func (a *announcer) warnOnce(text string) {
	if _, shown := a.shown.LoadOrStore(text, nil); !shown {
		a.warn(text)
	}
}

// warnAt shows a warning about a step, with the lines of the step.
func (a *announcer) warnAt(step *plan.Step, text string) {
	a.warn(a.file.WarningText(instructions.Warning{Range: a.file.RangeOf(step.Place()), Msg: text}))
}

// sparse warns, once, about a large sparse file of the image's files, which are written out or made one layer.
func (a *announcer) sparse(path string, size, data int64) {
	a.warnOnce(sparse.Warning("/"+path, size, data))
}
