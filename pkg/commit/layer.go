// Package commit turns what a build made into what the store keeps: an upper directory into a layer, a base, a history
// and a config into an image. It knows no Dockerfile.
package commit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/pkg/layer"
)

// Job is a layer on its way into the store. The step above may run, and even mount the layer's directory, before it
// has arrived; only its own commit waits for it.
type Job struct {
	done  chan struct{}
	layer containers.Layer // the zero value: no layer, the stage starts from scratch
	err   error
	found bool // see Found
}

// Stored is the Job of a layer that the store has already; the zero Layer stands for scratch.
func Stored(l containers.Layer) *Job {
	j := &Job{done: make(chan struct{}), layer: l, found: true}
	close(j.done)
	return j
}

// Found returns the layer if the store had it before: the Job is from Stored.
func (j *Job) Found() (l containers.Layer, ok bool) {
	if !j.found {
		return containers.Layer{}, false
	}
	return j.layer, true
}

// Wait returns the layer when it is stored. If ctx ends first, its error is returned and the Job goes on.
func (j *Job) Wait(ctx context.Context) (containers.Layer, error) {
	select {
	case <-j.done:
		return j.layer, j.err
	case <-ctx.Done():
		return containers.Layer{}, context.Cause(ctx)
	}
}

// Done is closed when the layer is stored, or given up.
func (j *Job) Done() <-chan struct{} { return j.done }

// Err is why the layer was given up; nil before Done is closed.
func (j *Job) Err() error {
	select {
	case <-j.done:
		return j.err
	default:
		return nil
	}
}

// LayerOptions says how a directory becomes a layer.
type LayerOptions struct {
	Parent *Job   // the layer below
	Name   string // name of the layer in the store, taken from the layer that has it; "": none
	// Notes returns the notes that are stored with the layer (store.Content). It is called when the layer has been read; nil:
	// there are none.
	Notes func() []byte
	// Below is what the root directory was like before the step; nil: the layer does not say what it is like now.
	Below *layer.Root
	// Check is called when the parent is stored, before the layer is, and after an error: its error gives
	// the layer up. Nil: none.
	Check   func() error
	Epoch   *time.Time // nil: times as they are; else every entry's modification time
	Clamp   bool       // Epoch replaces later times only
	Trusted bool       // overlayfs marks are trusted.overlay.* (real root), not user.overlay.*
	// Sparse is that of layer.Options, called while the layer is read.
	Sparse func(path string, size, data int64)
}

// Layer starts to turn the staging directory into a layer of the store and returns at once. The directory must not
// change any more; it may be mounted. The Job ends the staging, whatever happens.
func Layer(ctx context.Context, s *containers.Store, staging *containers.Staging, o LayerOptions) *Job {
	j := &Job{done: make(chan struct{})}
	go func() {
		defer close(j.done)
		if j.layer, j.err = commitLayer(ctx, s, staging, o); j.err != nil {
			j.err = errors.Join(j.err, staging.Discard())
		}
	}()
	return j
}

func commitLayer(ctx context.Context, s *containers.Store, staging *containers.Staging, o LayerOptions) (containers.Layer, error) {
	content, err := describe(ctx, staging.Upper, o)
	if err != nil {
		return containers.Layer{}, err
	}

	parent, err := o.Parent.Wait(ctx)
	if err == nil && o.Check != nil {
		err = o.Check()
	}
	if err != nil {
		return containers.Layer{}, errors.Join(err, content.TarSplit.Close())
	}

	if o.Notes != nil {
		content.Notes = o.Notes()
	}
	l, err := Apply(s, staging, content, parent.ID, o.Name)
	if err != nil && o.Check != nil {
		if cause := o.Check(); cause != nil { // the parent was removed since
			return containers.Layer{}, cause
		}
	}

	return l, err
}

// Apply makes the staging directory, which holds content, a layer above parent ("": none) and gives it the name ("":
// none).
func Apply(s *containers.Store, staging *containers.Staging, content containers.Content, parent, name string) (containers.Layer, error) {
	if name == "" {
		return staging.Apply(content, parent)
	}
	l, err := staging.Apply(content, parent, name)
	if err != nil || slices.Contains(l.Names, name) {
		return l, err
	}

	// Another layer has the name, of another build or of one that had to be made again: the newest has it. So a layer
	// that nothing can be stacked on any more does not keep its name for ever.
	return l, s.NameLayer(l.ID, name)
}

// describe reads the directory once: digest, size and tar-split of its tar.
func describe(ctx context.Context, upper string, o LayerOptions) (c containers.Content, err error) {
	dir, err := os.Open(upper)
	if err != nil {
		return c, fmt.Errorf("opening the step's files: %w", err)
	}
	defer dir.Close()

	tarSplit, err := fdfs.Memfd("tar-split")
	if err != nil {
		return c, err
	}

	opts := layer.Options{TarSplit: tarSplit, Epoch: o.Epoch, Clamp: o.Clamp, Below: o.Below, Sparse: o.Sparse}
	if o.Trusted {
		opts.Xattrs = "trusted.overlay."
	}
	r, err := layer.Write(ctx, dir, nil, opts)
	if err != nil {
		return c, errors.Join(err, tarSplit.Close())
	}
	return containers.Content{DiffID: r.DiffID, Size: r.Size, TarSplit: tarSplit, RootMode: r.RootMode}, nil
}
