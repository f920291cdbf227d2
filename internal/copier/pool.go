package copier

import (
	"context"
	"crypto/sha256"
	"hash"
	"runtime"
	"sync"
	"sync/atomic"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// job is work for a pool. The pool calls release once in any case, after run or instead of run.
type job interface {
	run(w *worker) error
	release()
}

// worker is the state that a goroutine reuses for its jobs.
type worker struct {
	ctx  context.Context //nolint:containedctx // of the pool
	hash hash.Hash
	buf  []byte
}

func newWorker(ctx context.Context) *worker {
	return &worker{ctx: ctx, hash: sha256.New(), buf: make([]byte, bufferSize)}
}

// pool runs jobs in 2 to 8 goroutines. After the first error it runs no more jobs.
type pool struct {
	ctx     context.Context //nolint:containedctx // canceled by the first error, which is its cause
	cancel  context.CancelCauseFunc
	jobs    chan job
	pending sync.WaitGroup // jobs that are not finished
	running sync.WaitGroup // goroutines
}

func newPool(ctx context.Context) *pool {
	p := &pool{jobs: make(chan job, 64)}
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	for range max(2, min(runtime.GOMAXPROCS(0), 8)) {
		p.running.Go(p.work)
	}
	return p
}

// work runs jobs until the pool is closed.
func (p *pool) work() {
	var w *worker
	for j := range p.jobs {
		if p.ctx.Err() == nil {
			if w == nil {
				w = p.newWorker()
			}
			if err := j.run(w); err != nil {
				p.cancel(err)
			}
		}
		j.release()
		p.pending.Done()
	}
}

// newWorker returns a worker whose jobs end with the pool.
func (p *pool) newWorker() *worker { return newWorker(p.ctx) }

// submit has a goroutine run j.
func (p *pool) submit(j job) {
	p.pending.Add(1)
	p.jobs <- j
}

// err returns the first error of a job, or the reason why the context ended.
func (p *pool) err() error { return context.Cause(p.ctx) }

// flush waits until all jobs are finished.
func (p *pool) flush() error {
	p.pending.Wait()
	return p.err()
}

// close waits until all jobs are finished, and ends the goroutines. It returns the first error of a
// job, or err, the error of the caller, which may be a consequence of that error.
func (p *pool) close(err error) error {
	close(p.jobs)
	p.running.Wait()
	cause := p.err()
	p.cancel(nil)
	if cause != nil {
		return cause
	}
	return err
}

// sharedDir is an open directory that several jobs use. The last release closes it.
type sharedDir struct {
	fdfs.Dir
	refs atomic.Int32
	last func() // called before the directory is closed; may be nil
}

func share(d fdfs.Dir) *sharedDir {
	s := &sharedDir{Dir: d}
	s.refs.Store(1)
	return s
}

func (d *sharedDir) retain() *sharedDir {
	d.refs.Add(1)
	return d
}

// release drops one reference. d may be nil.
func (d *sharedDir) release() {
	if d == nil || d.refs.Add(-1) > 0 {
		return
	}
	if d.last != nil {
		d.last()
	}
	d.Close() // only opened
}

// sum returns the digest of the bytes that were written to w.hash.
func (w *worker) sum() (sum [32]byte) {
	w.hash.Sum(sum[:0])
	return sum
}
