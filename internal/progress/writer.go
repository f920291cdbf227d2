package progress

import (
	"bytes"
	"io"
	"sync"
	"time"
	"unicode/utf8"
)

// maxLine bounds the bytes of an unfinished line that are held back.
const maxLine = 64 << 10

// StepWriter returns a writer that makes StepOutput events of whole lines from the output of a
// step. A line longer than 64 KiB comes in parts. Close sends the rest, without adding a newline,
// and does not close the step. The writer is safe for concurrent use, so it can be standard output
// and standard error at the same time. Write never fails before Close. After Close, Write returns
// io.ErrClosedPipe.
func StepWriter(l Listener, s *Step) io.WriteCloser {
	return &stepWriter{to: l, step: s}
}

type stepWriter struct {
	mu     sync.Mutex
	to     Listener
	step   *Step
	held   []byte // an unfinished line
	closed bool
}

// Write implements io.Writer.
func (w *stepWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return 0, io.ErrClosedPipe
	}

	n := len(p)
	for len(p) > 0 {
		whole := bytes.LastIndexByte(p, '\n') + 1
		if whole > 0 && len(w.held) == 0 {
			w.send(p[:whole])
			p = p[whole:]
			continue
		}

		if whole > 0 { // finish the line that is held back first
			whole = bytes.IndexByte(p, '\n') + 1
		} else {
			whole = len(p)
		}
		whole = min(whole, maxLine-len(w.held))
		w.held = append(w.held, p[:whole]...)
		p = p[whole:]
		w.flush()
	}

	return n, nil
}

// flush sends the held line if the line is finished. If the line is too long, flush sends the part
// up to the last complete character.
func (w *stepWriter) flush() {
	switch {
	case w.held[len(w.held)-1] == '\n':
		w.send(w.held)
		w.held = w.held[:0]
	case len(w.held) >= maxLine:
		end := len(w.held)
		for i := end - 1; i > end-utf8.UTFMax; i-- {
			if utf8.RuneStart(w.held[i]) {
				if !utf8.FullRune(w.held[i:]) {
					end = i
				}
				break
			}
		}
		w.send(w.held[:end])
		w.held = append(w.held[:0], w.held[end:]...)
	}
}

func (w *stepWriter) send(data []byte) {
	w.to.Event(Event{Kind: StepOutput, Step: w.step, Time: time.Now(), Data: data})
}

// Close implements io.Closer; further calls do nothing.
func (w *stepWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.held) > 0 {
		w.send(w.held)
	}
	w.closed, w.held = true, nil
	return nil
}
