package progress

import (
	"io"
	"sync"
)

// Quiet writes warnings and, for a step that fails, the line of the step and the end of its output
// (up to 64 KiB).
func Quiet(w io.Writer) Listener {
	return &quiet{w: w, running: clock{}, tails: map[*Step]*tail{}}
}

type quiet struct {
	mu      sync.Mutex
	w       io.Writer
	running clock
	tails   map[*Step]*tail
}

// Event implements Listener.
func (q *quiet) Event(e Event) {
	q.mu.Lock()
	defer q.mu.Unlock()

	e = q.running.note(e)
	switch e.Kind {
	case StepOutput:
		t := q.tails[e.Step]
		if t == nil {
			t = &tail{}
			q.tails[e.Step] = t
		}
		t.add(e.Data)
	case StepFailed:
		out := q.tails[e.Step].lines()
		q.write(append(out, closing(e)+waited(e)+"\n"...))
		delete(q.tails, e.Step)
	case StepCached, StepDone, StepStopped:
		delete(q.tails, e.Step)
	case Warning:
		q.write([]byte(message(e) + "\n"))
	case StepStarted, Notice:
	}
}

func (q *quiet) write(b []byte) {
	_, _ = q.w.Write(b) // see the package comment
}
