package builder

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestClock shows that the clock ends a step that works for too long, and not a step that waits for others.
func TestClock(t *testing.T) {
	const limit = time.Second
	ctx, clock, done := startClock(t.Context(), limit)
	defer done()

	resume := clock.pause()
	time.Sleep(3 * limit)
	if ctx.Err() != nil {
		t.Fatal("waiting counts")
	}
	clock.pause()() // within a wait: it goes on
	if worked, waited := clock.times(); waited < 3*limit || worked > limit {
		t.Errorf("worked %s, waited %s", worked, waited)
	}
	resume()
	resume() // is over already
	<-ctx.Done()
	ended := (*TimeoutError)(nil)
	if !errors.As(context.Cause(ctx), &ended) || ended.Limit != limit {
		t.Errorf("cause: %v", context.Cause(ctx))
	}
	worked, waited := clock.times()
	if worked < limit {
		t.Errorf("ended after %s", worked)
	}
	clock.pause()() // when it is over, nothing ends again

	// A part of the wait may have been work, or more than the whole.
	clock.pause()
	clock.charge(limit)
	if now, rest := clock.times(); now < worked+limit || rest < waited-limit {
		t.Errorf("worked %s and waited %s, before it was %s and %s", now, rest, worked, waited)
	}
	clock.charge(time.Hour)
	if now, rest := clock.times(); now < time.Hour || rest > limit {
		t.Errorf("worked %s and waited %s", now, rest)
	}

	ctx, clock, done = startClock(t.Context(), 0)
	clock.pause()()
	if done(); ctx.Err() != nil {
		t.Error("no limit ends the step")
	}
}

func TestBecause(t *testing.T) {
	limit := &TimeoutError{What: "the build ran longer than", Limit: time.Second, Flag: "--timeout"}
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(limit)
	failed, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("another step"))
	other := &StepError{File: "Dockerfile", Line: 2, Err: &TimeoutError{What: "the step ran longer than", Limit: time.Second, Flag: "--step-timeout"}}
	slow, cancel := context.WithCancelCause(t.Context())
	cancel(other)
	library := fmt.Errorf("pulling: %w", context.Canceled)
	for name, tc := range map[string]struct {
		ctx  context.Context //nolint:containedctx // of one line of the table
		err  error
		want error
	}{
		"no error":      {ended, nil, nil},
		"the limit":     {ended, library, limit},
		"a slow step":   {slow, library, other}, // not the step that was ended with it
		"another cause": {failed, library, library},
		"not ended":     {t.Context(), library, library},
	} {
		if got := Because(tc.ctx, tc.err); !errors.Is(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}

	named := fmt.Errorf("step: %w", limit)
	if got := Because(ended, named); got.Error() != named.Error() {
		t.Errorf("an error that says so is %v", got)
	}
}
