package builder

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// TimeoutError says that a step or the build exceeded a time limit. As the cause of the context of a Build, TimeoutError is
// the error of the step that ran at that time.
type TimeoutError struct {
	What  string // for example "the build ran longer than"
	Limit time.Duration
	Flag  string // by which the user has set the limit, for example "--timeout"
}

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("stopped: %s %s (%s)", e.What, e.Limit, e.Flag)
}

// Because returns the TimeoutError that cancelled ctx, with the step that exceeded its limit if that is known, and err
// otherwise. Libraries report only that a context was canceled.
func Because(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if err == nil || !errors.As(cause, new(*TimeoutError)) || errors.As(err, new(*TimeoutError)) {
		return err
	}
	return cause
}

// clock measures how long a step works, and how long it waits for others: for a stage, the pull of an image, the layer
// below, a slot of --jobs, the lock of a cache mount. The limit of a step and the times that are shown are both of this
// clock. A clock is for one goroutine.
type clock struct {
	worked, waited time.Duration // until since
	since          time.Time     // when the step last began to work or to wait
	waiting        bool

	limit time.Duration // of the work; 0: none
	timer *time.Timer   // ends the step; nil: no limit
}

// startClock starts a clock, and returns a context that ends after limit of work (0: no limit). The caller calls stop.
func startClock(ctx context.Context, limit time.Duration) (_ context.Context, c *clock, stop func()) {
	c = &clock{since: time.Now(), limit: limit}
	if limit == 0 {
		return ctx, c, func() {}
	}

	ctx, cancel := context.WithCancelCause(ctx)
	err := &TimeoutError{What: "the step ran longer than", Limit: limit, Flag: "--step-timeout"}
	c.timer = time.AfterFunc(limit, func() { cancel(err) })
	return ctx, c, func() {
		c.timer.Stop()
		cancel(nil)
	}
}

// pause says that the step waits from now on, until resume is called. Within a wait, pause changes nothing.
func (c *clock) pause() (resume func()) {
	if c.waiting {
		return func() {}
	}
	c.turn(true)
	return func() { c.turn(false) }
}

// turn ends a period of work or of waiting, and begins a period of the other kind.
func (c *clock) turn(waiting bool) {
	if c.waiting == waiting {
		return
	}

	c.worked, c.waited = c.times()
	c.since = time.Now()
	c.waiting = waiting
	switch {
	case c.timer == nil:
	case waiting:
		c.timer.Stop()
	default:
		c.timer.Reset(c.limit - c.worked)
	}
}

// charge adds work that was done elsewhere for the step: the pull, which may have begun before the step. Time that the step
// waited for this work does not count as waiting.
func (c *clock) charge(work time.Duration) {
	worked, waited := c.times()
	c.worked = worked + work
	c.waited = max(0, waited-work)
	c.since = time.Now()
}

// times returns how long the step has worked and waited so far.
func (c *clock) times() (worked, waited time.Duration) {
	now := time.Since(c.since)
	if c.waiting {
		return c.worked, c.waited + now
	}
	return c.worked + now, c.waited
}
