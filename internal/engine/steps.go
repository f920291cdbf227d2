package engine

import (
	"sync"

	"codeberg.org/rbuild/rbuild/internal/progress"
)

// stepRecord is a step in --metadata-file.
type stepRecord struct {
	Name    string  `json:"name"`
	Stage   string  `json:"stage,omitempty"`
	Line    int     `json:"line,omitempty"`
	Cached  bool    `json:"cached"`
	Seconds float64 `json:"seconds"`       // of the step's own work
	Waited  float64 `json:"waitedSeconds"` // for other stages, pulls, locks and slots
	// Usage is missing if the step ran no program.
	Usage *progress.Usage `json:"usage,omitempty"`
}

// stepLog records the finished steps, in the order in which they ended, and passes all events on.
type stepLog struct {
	to progress.Listener

	mu    sync.Mutex
	steps []stepRecord
}

// Event implements progress.Listener.
func (l *stepLog) Event(e progress.Event) {
	if e.Step != nil && (e.Kind == progress.StepDone || e.Kind == progress.StepCached) {
		l.mu.Lock()
		l.steps = append(l.steps, stepRecord{
			Name: e.Step.Text, Stage: e.Step.Stage, Line: e.Step.Line, Cached: e.Kind == progress.StepCached,
			Seconds: e.Elapsed.Seconds(), Waited: e.Waited.Seconds(), Usage: e.Usage,
		})
		l.mu.Unlock()
	}
	l.to.Event(e)
}

// ended returns the steps that have ended so far; never nil, so that JSON has a list.
func (l *stepLog) ended() []stepRecord {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]stepRecord{}, l.steps...)
}
