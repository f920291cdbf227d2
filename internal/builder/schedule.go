package builder

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"sync"
	"time"
)

// schedule decides when work is done: each stage and image once, several side by side, the first failure ends the
// others.
type schedule struct {
	interrupt  context.Context //nolint:containedctx // of commits: ended when the build is interrupted, not when a step has failed
	cancel     context.CancelCauseFunc
	slots      chan struct{} // one for each step that makes files at the same time
	background sync.WaitGroup
	mu         sync.Mutex // guards tables of futures
}

// newSchedule returns a schedule with a number of slots (0: one for each processor, at least 2), and the context of all steps.
func newSchedule(interrupt context.Context, jobs int) (*schedule, context.Context, func()) {
	ctx, cancel := context.WithCancelCause(interrupt)
	slots := make(chan struct{}, cmp.Or(jobs, max(2, runtime.NumCPU())))
	return &schedule{interrupt: interrupt, cancel: cancel, slots: slots}, ctx, func() { cancel(nil) }
}

// enter waits for a slot. The caller calls leave.
func (s *schedule) enter(ctx context.Context, c *clock) (leave func(), err error) {
	defer c.pause()()
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// close ends all work and waits for it.
func (s *schedule) close() {
	s.cancel(context.Canceled)
	s.background.Wait()
}

// future is a snapshot that is being made.
type future struct {
	done chan struct{}
	snap *snapshot
	err  error
	took time.Duration // how long it was made, until a step has been charged with it; guarded by schedule.mu
}

// wait waits for the snapshot, or for the end of ctx.
func (f *future) wait(ctx context.Context) (*snapshot, error) {
	select {
	case <-f.done:
		return f.snap, f.err
	case <-ctx.Done():
	}

	cause := context.Cause(ctx)
	if errors.As(cause, new(*TimeoutError)) { // the stage is about to end too, and its error names the slow step
		if <-f.done; f.err != nil {
			return nil, f.err
		}
	}
	return nil, cause
}

// once starts make in the background unless key is in the table already.
func once[K comparable](s *schedule, table map[K]*future, key K, make func() (*snapshot, error)) *future {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := table[key]; ok {
		return f
	}

	f := newFuture()
	table[key] = f
	s.background.Go(func() {
		defer close(f.done)
		began := time.Now()
		f.snap, f.err = make()
		f.took = time.Since(began)
	})

	return f
}

func newFuture() *future { return &future{done: make(chan struct{})} }

// charge returns how long the snapshot was made, to the first caller only. The future must be done.
func (s *schedule) charge(f *future) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	took := f.took
	f.took = 0
	return took
}
