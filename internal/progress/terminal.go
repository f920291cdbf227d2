package progress

import (
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// interval is the time between two frames.
const interval = 100 * time.Millisecond

// TerminalOptions changes what a terminal shows. The zero value is colours.
type TerminalOptions struct {
	// NoColor leaves out colours and bold face; cursor movements remain.
	NoColor bool
}

// Live is the listener for a terminal: finished steps are one line each, running steps show their
// time and their last lines of output, and a step that fails shows the end of its output (up to 64
// KiB). It uses no alternate screen, and hides the cursor only while it draws. Close must be
// called, or the last tenth of a second is not shown.
type Live struct {
	mu   sync.Mutex
	f    *os.File
	view view

	stop chan struct{} // closed by Close
	done chan struct{} // closed when the goroutine that draws has ended
	once sync.Once
}

// Terminal shows events on f, which must be a terminal; use Plain for other files. The size of the
// terminal is read for each frame. The caller closes the Live.
func Terminal(f *os.File, o TerminalOptions) *Live {
	l := &Live{
		f: f, view: view{color: !o.NoColor, running: clock{}},
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	go l.loop()
	return l
}

// IsTerminal reports whether f is a terminal, on which Terminal can show events.
func IsTerminal(f *os.File) bool {
	return term.IsTerminal(int(f.Fd()))
}

// Event implements Listener.
func (l *Live) Event(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	width := 0
	if e.Kind != StepOutput { // output only goes into a buffer
		width, _ = l.size()
	}
	l.view.event(e, width)
	if l.view.closed || e.Kind == StepFailed {
		l.draw()
	}
}

// Close draws the last frame. Steps that are not closed are marked as stopped. Close may be called
// again. Events after Close are still shown.
func (l *Live) Close() error {
	l.once.Do(func() {
		close(l.stop)
		<-l.done
		l.mu.Lock()
		defer l.mu.Unlock()
		width, _ := l.size()
		l.view.stop(time.Now(), width)
		l.draw()
	})
	return nil
}

func (l *Live) loop() {
	defer close(l.done)

	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
			l.mu.Lock()
			l.draw()
			l.mu.Unlock()
		}
	}
}

// draw needs the lock.
func (l *Live) draw() {
	width, height := l.size()
	if text := l.view.frame(time.Now(), width, height); text != "" {
		_, _ = l.f.WriteString(text) // see the package comment
	}
}

// size returns columns and rows; a terminal that does not know, such as a serial line, counts as 80
// by 24.
func (l *Live) size() (width, height int) {
	width, height, err := term.GetSize(int(l.f.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		return 80, 24
	}
	return width, height
}
