package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// TimeoutError says that something was ended because it took too long. As the cause of the context of a Build it is
// what the error of the step says that was then running.
type TimeoutError struct {
	What  string // did what for too long: "the build ran longer than"
	Limit time.Duration
	Flag  string // by which the user has set the limit
}

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("stopped: %s %s (%s)", e.What, e.Limit, e.Flag)
}

// Because is err, or the time limit that made ctx end, with the step that reached it if that is known: what a library says
// then is that a context was canceled.
func Because(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if err == nil || !errors.As(cause, new(*TimeoutError)) || errors.As(err, new(*TimeoutError)) {
		return err
	}
	return cause
}

// stepClock ends a step that takes too long. It stands still while the step waits for others. The zero value has no
// limit. It is for one goroutine.
type stepClock struct {
	timer *time.Timer
	left  time.Duration
	since time.Time
}

// limitStep ends what is done in the context after Options.StepTimeout; done gives the clock back.
func (b *builder) limitStep(ctx context.Context) (_ context.Context, clock *stepClock, done func()) {
	clock = &stepClock{}
	if b.StepTimeout == 0 {
		return ctx, clock, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	limit := &TimeoutError{"the step ran longer than", b.StepTimeout, "--step-timeout"}
	clock.left, clock.since = b.StepTimeout, time.Now()
	clock.timer = time.AfterFunc(clock.left, func() { cancel(limit) })
	return ctx, clock, func() {
		clock.timer.Stop()
		cancel(nil)
	}
}

// pause stops the clock until resume is called.
func (c *stepClock) pause() (resume func()) {
	if c.timer == nil || !c.timer.Stop() {
		return func() {}
	}
	c.left -= time.Since(c.since)
	return func() {
		c.since = time.Now()
		c.timer.Reset(c.left)
	}
}

// listen ends what is done in the context when nothing is written to heard for Options.SilenceTimeout; done ends that.
// Time that a write takes does not count: whoever reads along may be slow.
func (b *builder) listen(ctx context.Context, to io.Writer) (_ context.Context, heard io.Writer, done func()) {
	if b.SilenceTimeout == 0 {
		return ctx, to, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	limit := &TimeoutError{"the step printed nothing for", b.SilenceTimeout, "--no-output-timeout"}
	w := &listener{to: to, limit: b.SilenceTimeout}
	w.timer = time.AfterFunc(w.limit, func() { cancel(limit) })
	return ctx, w, func() {
		w.ended.Store(true)
		w.timer.Stop()
		cancel(nil)
	}
}

// listener is a writer that notices silence.
type listener struct {
	to    io.Writer
	limit time.Duration
	timer *time.Timer
	ended atomic.Bool
}

func (w *listener) Write(p []byte) (int, error) {
	w.timer.Stop()
	n, err := w.to.Write(p)
	if !w.ended.Load() {
		w.timer.Reset(w.limit)
	}
	return n, err
}
