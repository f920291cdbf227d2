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

// job is something a pool does. release is called once in any case, after run or instead of it.
type job interface {
	run(w *worker) error
	release()
}

// worker is what a goroutine has for its jobs.
type worker struct {
	ctx  context.Context //nolint:containedctx // the pool's
	hash hash.Hash
	buf  []byte
}

func (p *pool) newWorker() *worker {
	return &worker{ctx: p.ctx, hash: sha256.New(), buf: make([]byte, bufferSize)}
}

// pool does jobs in a few goroutines. After the first error it does no more of them.
type pool struct {
	ctx     context.Context //nolint:containedctx // over after the first error, which is its cause
	cancel  context.CancelCauseFunc
	jobs    chan job
	pending sync.WaitGroup // jobs not finished
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

// submit has j done.
func (p *pool) submit(j job) {
	p.pending.Add(1)
	p.jobs <- j
}

// err returns the first error of a job, or why the pool's context is over.
func (p *pool) err() error { return context.Cause(p.ctx) }

// flush waits until all jobs are done.
func (p *pool) flush() error {
	p.pending.Wait()
	return p.err()
}

// close waits until all jobs are done and ends the goroutines. err is what the caller has met itself; if it is nil or
// only the echo of a job's error, that one is returned.
func (p *pool) close(err error) error {
	close(p.jobs)
	p.running.Wait()
	if cause := p.err(); cause != nil {
		err = cause
	}
	p.cancel(nil)
	return err
}

// sharedDir is an open directory that several jobs use. The last release closes it.
type sharedDir struct {
	fdfs.Dir
	refs atomic.Int32
	last func() // called before it is closed; may be nil
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

func (d *sharedDir) release() {
	if d == nil || d.refs.Add(-1) > 0 {
		return
	}
	if d.last != nil {
		d.last()
	}
	d.Close() // opened for reading: nothing to lose
}
