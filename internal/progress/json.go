package progress

import (
	"encoding/json"
	"io"
	"sync"
	"time"
)

// JSON writes one object per line for each event. Fields that do not apply are left out:
//
//	{"time":"2026-11-20T18:00:00.1Z","kind":"output","stage":"build","number":4,"total":7,"data":"cc -o prog\n"}
//
// kind is started, output, cached, done, failed, stopped, notice or warning. seconds is the time
// for which a closed step worked, waitedSeconds the time for which the step waited for other steps.
// The line that closes a step which ran a program has usage, with sizes in bytes. Bytes of data
// that are not UTF-8 are replaced by U+FFFD, and characters that are not graphic are escaped.
func JSON(w io.Writer) Listener {
	enc := json.NewEncoder(JSONWriter(w))
	enc.SetEscapeHTML(false)
	return &jsonLines{enc: enc, running: clock{}}
}

type jsonLines struct {
	mu      sync.Mutex
	enc     *json.Encoder
	running clock
}

// record is the public form of an event: names and types stay as they are, fields may be added.
type record struct {
	Time        time.Time `json:"time"`
	Kind        string    `json:"kind"`
	Stage       string    `json:"stage,omitempty"`
	Number      int       `json:"number,omitempty"`
	Total       int       `json:"total,omitempty"`
	Instruction string    `json:"instruction,omitempty"`
	File        string    `json:"file,omitempty"`
	Line        int       `json:"line,omitempty"`
	Seconds     *float64  `json:"seconds,omitempty"`
	Waited      float64   `json:"waitedSeconds,omitempty"`
	Data        string    `json:"data,omitempty"`
	Text        string    `json:"text,omitempty"`
	Error       string    `json:"error,omitempty"`
	Usage       *Usage    `json:"usage,omitempty"`
}

// Event implements Listener.
func (j *jsonLines) Event(e Event) {
	j.mu.Lock()
	defer j.mu.Unlock()

	e = j.running.note(e)
	r := record{Time: e.Time.UTC(), Kind: e.Kind.String(), Data: string(e.Data), Text: e.Text, Usage: e.Usage}
	if s := e.Step; s != nil {
		r.Stage = s.Stage
		r.Number = s.Number
		r.Total = s.Total
		if e.Kind != StepOutput {
			r.Instruction = s.Text
			r.File = s.File
			r.Line = s.Line
		}
	}

	if e.Kind == StepCached || e.Kind == StepDone || e.Kind == StepFailed || e.Kind == StepStopped {
		seconds := e.Elapsed.Round(time.Microsecond).Seconds()
		r.Seconds = &seconds
		r.Waited = e.Waited.Round(time.Microsecond).Seconds()
	}

	if e.Err != nil {
		r.Error = e.Err.Error()
	}
	_ = j.enc.Encode(r) // see the package comment
}
