package builder

import (
	"context"
	"errors"
	"fmt"
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

// stepClock measures how long a step works, and how long it waits for others: for a stage, the pull of an image, the layer
// below, a slot of --jobs, the lock of a cache mount. The limit of a step and the times that are shown are both of this
// clock. The zero value is not running. It is for one goroutine.
type stepClock struct {
	worked, waited time.Duration // until since
	since          time.Time     // when the step last began to work or to wait
	waiting        bool

	limit time.Duration // of the work; 0: none
	timer *time.Timer   // calls what ends the step; nil: no limit
}

// startClock returns a clock that runs.
func startClock() *stepClock { return &stepClock{since: time.Now()} }

// limitStep returns a context that ends after Options.StepTimeout of work. done stops the clock.
func (b *builder) limitStep(ctx context.Context) (_ context.Context, clock *stepClock, done func()) {
	clock = startClock()
	if b.StepTimeout == 0 {
		return ctx, clock, func() {}
	}

	ctx, cancel := context.WithCancelCause(ctx)
	limit := &TimeoutError{"the step ran longer than", b.StepTimeout, "--step-timeout"}
	clock.limit = b.StepTimeout
	clock.timer = time.AfterFunc(clock.limit, func() { cancel(limit) })
	return ctx, clock, func() {
		clock.timer.Stop()
		cancel(nil)
	}
}

// pause says that the step waits from now on, until resume is called. Within a wait it changes nothing.
func (c *stepClock) pause() (resume func()) {
	if c.waiting {
		return func() {}
	}
	c.turn(true)
	return func() { c.turn(false) }
}

// turn ends a period of work or of waiting, and begins one of the other kind.
func (c *stepClock) turn(waiting bool) {
	if c.waiting == waiting {
		return
	}

	c.worked, c.waited = c.times()
	c.since, c.waiting = time.Now(), waiting
	switch {
	case c.timer == nil:
	case waiting:
		c.timer.Stop()
	default:
		c.timer.Reset(c.limit - c.worked)
	}
}

// charge adds work that was done elsewhere for the step: the pull, which may have begun before the step. Time that the step
// waited for this work is not counted as waiting.
func (c *stepClock) charge(work time.Duration) {
	worked, waited := c.times()
	c.worked, c.waited = worked+work, max(0, waited-work)
	c.since = time.Now()
}

// times returns how long the step has worked and waited so far.
func (c *stepClock) times() (worked, waited time.Duration) {
	now := time.Since(c.since)
	if c.waiting {
		return c.worked, c.waited + now
	}
	return c.worked + now, c.waited
}
