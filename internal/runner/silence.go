package runner

import (
	"context"
	"io"
	"sync/atomic"
	"time"
)

// watch returns a context that ends with s.Err if nothing is written to the returned writer for
// s.Limit. Time that a write takes does not count: the reader at the other end may be slow. The
// caller calls done after the last write.
func (s Silence) watch(ctx context.Context, to io.Writer) (_ context.Context, heard io.Writer, done func()) {
	if s.Limit == 0 {
		return ctx, to, func() {}
	}

	ctx, cancel := context.WithCancelCause(ctx)
	w := &listener{to: to, limit: s.Limit}
	w.timer = time.AfterFunc(w.limit, func() { cancel(s.Err) })
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
