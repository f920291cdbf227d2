package transfer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptrace"
	"sync"
	"time"

	"go.podman.io/image/v5/types"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// The library reads the body of an error to its end, and waits without a limit for a server that
// sends a byte now and then. It makes its HTTP client itself, so that rbuild cannot replace the
// transport. But the library passes our context to each request, and a context can carry a trace
// that is called for each connection. So the arriving bytes are counted by the kernel, at the
// connection.

// watchLimits bound the answers of registries. Zero fields have the default.
type watchLimits struct {
	silence time.Duration // time in which an answer that has begun must bring pace bytes; 0: a minute
	answer  time.Duration // time from the last byte until an answer must begin; 0: ten minutes, because storing a layer takes long
	pace    uint64        // bytes, see silence; 0: 16 KiB
	excess  uint64        // bytes of all answers, without the blobs that are read; 0: 32 MiB
}

const (
	watchTick = 100 * time.Millisecond // between two looks at the connections

	// blobShare is the largest size of a blob on the wire, with headers, TLS and chunks, in percent
	// of the blob.
	blobShare = 110
)

func (l watchLimits) orDefault() watchLimits {
	if l.silence == 0 {
		l.silence = time.Minute
	}
	if l.answer == 0 {
		l.answer = 10 * time.Minute
	}
	if l.pace == 0 {
		l.pace = 16 << 10
	}
	if l.excess == 0 {
		l.excess = 32 << 20
	}
	return l
}

// errStalled is wrapped by the error of a request whose answer stalls. Another attempt may succeed.
var errStalled = errors.New("the registry answers too slowly")

// watch is a context whose requests are watched.
type watch struct {
	context.Context //nolint:containedctx // a watch is a context with another Value method
	limits          watchLimits
	cancel          context.CancelCauseFunc
	marker          *httptrace.ClientTrace
	stop, done      chan struct{} // stop is closed when op has returned, done when look has returned

	mu       sync.Mutex
	requests map[*watchedRequest]struct{}
	ended    uint64 // bytes that finished requests received
	blobs    uint64 // bytes of blobs that the copy has read
}

// watchedRequest is a request that has a connection, until the answer has been read or the
// connection is closed.
type watchedRequest struct {
	conn     net.Conn
	start    fdfs.TCPCount
	received uint64 // since start, and read
	begun    bool   // the answer has begun
	mark     uint64 // bytes sent and received until since
	since    time.Time
}

// watched runs op with a context whose requests are bounded by Options.limits. It returns an error
// about the exceeded bound, else the error of op. op gets a channel for the progress of a copy from
// a registry.
func (o Options) watched(ctx context.Context, op func(ctx context.Context, progress chan types.ProgressProperties) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{
		limits: o.limits.orDefault(), cancel: cancel, marker: &httptrace.ClientTrace{},
		stop: make(chan struct{}), done: make(chan struct{}), requests: make(map[*watchedRequest]struct{}),
	}

	w.Context = httptrace.WithClientTrace(ctx, w.marker)
	progress := make(chan types.ProgressProperties)
	go w.look(progress)

	err := op(w, progress)      //nolint:contextcheck // a watch is ctx with a trace for each request
	cause := context.Cause(ctx) // nil, the caller's, or ours
	close(w.stop)
	<-w.done
	cancel(nil)
	if refused := (*watchError)(nil); err != nil && errors.As(cause, &refused) {
		return refused
	}
	return err
}

// watchError is the error of a bound that a registry exceeds.
type watchError struct{ err error }

func (e *watchError) Error() string { return e.err.Error() }
func (e *watchError) Unwrap() error { return e.err }

// Value gives each request a separate trace: net/http asks for the trace once for each request.
func (w *watch) Value(key any) any {
	value := w.Context.Value(key)
	if trace, ok := value.(*httptrace.ClientTrace); ok && trace == w.marker {
		return w.trace()
	}
	return value
}

func (w *watch) trace() *httptrace.ClientTrace {
	r := &watchedRequest{}
	return &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			count, err := fdfs.CountTCP(info.Conn)
			if err != nil {
				return // not a TCP connection, or closed already
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			r.conn = info.Conn
			r.start = count
			r.since = time.Now()
			w.requests[r] = struct{}{}
		},
		GotFirstResponseByte: func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			r.begun = true
		},
		PutIdleConn: func(error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if _, ok := w.requests[r]; ok {
				_ = w.count(r) // the final number of bytes
				w.end(r)
			}
		},
	}
}

// end removes a request. The caller holds w.mu.
func (w *watch) end(r *watchedRequest) {
	delete(w.requests, r)
	w.ended += r.received
}

// count counts the bytes of a request, and fails if the connection is closed or too slow. The
// caller holds w.mu.
func (w *watch) count(r *watchedRequest) error {
	now, err := fdfs.CountTCP(r.conn)
	if err != nil {
		return err
	}

	received := now.Received - r.start.Received
	if r.begun && now.Received == 0 { // the answer has begun without a byte: this kernel does not count
		return errors.ErrUnsupported
	}

	r.received = max(r.received, received-min(received, now.Unread))

	moved, allowed := received+now.Acked-r.start.Acked, w.limits.answer
	need := uint64(1)
	if r.begun {
		allowed, need = w.limits.silence, w.limits.pace
	}
	switch {
	case moved-r.mark >= need || now.Unread > 0: // unread bytes wait for us, not for the registry
		r.mark, r.since = moved, time.Now()
	case time.Since(r.since) > allowed && r.begun:
		return &watchError{fmt.Errorf("%w: less than %d bytes in %v", errStalled, need, allowed)}
	case time.Since(r.since) > allowed:
		return &watchError{fmt.Errorf("%w: no answer for %v", errStalled, allowed)}
	}

	return nil
}

// look watches the requests, and receives the progress of op, until op has returned.
func (w *watch) look(progress <-chan types.ProgressProperties) {
	defer close(w.done)

	tick := time.NewTicker(watchTick)
	defer tick.Stop()
	for {
		select {
		case <-w.stop:
			return
		case p := <-progress:
			w.mu.Lock()
			w.blobs += p.OffsetUpdate
			w.mu.Unlock()
		case <-tick.C:
			if err := w.judge(); err != nil {
				w.cancel(err) // the first error counts
			}
		}
	}
}

// judge counts all requests, and returns the error of a request or bound that op has to stop for.
func (w *watch) judge() error {
	w.mu.Lock()
	defer w.mu.Unlock()

	received := uint64(0)
	for r := range w.requests {
		err := w.count(r)
		if refused := (*watchError)(nil); errors.As(err, &refused) {
			return refused
		}
		if err != nil {
			w.end(r)
			continue
		}
		received += r.received
	}

	if received += w.ended; received > w.blobs/100*blobShare+w.limits.excess {
		return &watchError{fmt.Errorf("the registry sends more than %d bytes that are no layer, the limit for one copy", w.limits.excess)}
	}
	return nil
}
