package rootfs

import (
	"context"

	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// Job is a layer on its way into a store. The next step may run on the directory of the layer, even
// mount it, before the Job is done: only the Job of the next step waits. A Job is safe for
// concurrent use.
type Job struct {
	done   chan struct{}
	layer  commit.Layer
	err    error
	stored bool // made by Stored
}

// Stored returns the finished Job of a layer that the store has already. The zero Layer means
// scratch.
func Stored(l commit.Layer) *Job {
	j := &Job{done: make(chan struct{}), layer: l, stored: true}
	close(j.done)
	return j
}

// Go makes a layer in the background: the Job is done when store returns.
func Go(store func() (commit.Layer, error)) *Job {
	j := &Job{done: make(chan struct{})}
	go func() {
		defer close(j.done)
		j.layer, j.err = store()
	}()
	return j
}

// Found returns the layer and true if the Job is from [Stored].
func (j *Job) Found() (l commit.Layer, ok bool) {
	if !j.stored {
		return commit.Layer{}, false
	}
	return j.layer, true
}

// Wait waits until the layer is stored and returns the layer. If ctx ends first, Wait returns the
// cause of that and the Job continues.
func (j *Job) Wait(ctx context.Context) (commit.Layer, error) {
	select {
	case <-j.done:
		return j.layer, j.err
	case <-ctx.Done():
		return commit.Layer{}, context.Cause(ctx)
	}
}

// Done returns a channel that is closed when the layer is stored or the Job has failed.
func (j *Job) Done() <-chan struct{} { return j.done }

// Err returns the error of the Job. It is nil before Done is closed.
func (j *Job) Err() error {
	select {
	case <-j.done:
		return j.err
	default:
		return nil
	}
}
