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

	"codeberg.org/rbuild/rbuild/pkg/internal/linux"
	"codeberg.org/rbuild/rbuild/pkg/layer"
	"codeberg.org/rbuild/rbuild/pkg/store"
)

// Job is a layer on its way into the store. The step above may run, and even mount the layer's directory, before it
// has arrived; only its own commit waits for it.
type Job struct {
	done  chan struct{}
	layer store.Layer // the zero value: no layer, the stage starts from scratch
	empty bool
	err   error
}

// Stored is the Job of a layer that the store has already; the zero Layer stands for scratch.
func Stored(l store.Layer) *Job {
	j := &Job{done: make(chan struct{}), layer: l}
	close(j.done)
	return j
}

// Wait returns the layer when it is stored. If ctx ends first, its error is returned and the Job goes on.
func (j *Job) Wait(ctx context.Context) (store.Layer, error) {
	select {
	case <-j.done:
		return j.layer, j.err
	case <-ctx.Done():
		return store.Layer{}, context.Cause(ctx)
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

// Empty says, once Wait has returned, that the step changed nothing and that the Job's layer is its parent's.
func (j *Job) Empty() bool { return j.empty }

// LayerOptions says how a directory becomes a layer.
type LayerOptions struct {
	Parent    *Job       // the layer below
	Name      string     // name of the layer in the store; "": none
	Replace   bool       // take the name from the layer that has it
	SkipEmpty bool       // make no layer of a directory without entries: the Job's layer is then the parent's
	Epoch     *time.Time // nil: times as they are; else every entry's modification time
	Trusted   bool       // overlayfs marks are trusted.overlay.* (real root), not user.overlay.*
}

// Layer starts to turn the staging directory into a layer of the store and returns at once. The directory must not
// change any more; it may be mounted. The Job ends the staging, whatever happens.
func Layer(ctx context.Context, s *store.Store, staging *store.Staging, o LayerOptions) *Job {
	j := &Job{done: make(chan struct{})}
	go func() {
		defer close(j.done)
		j.layer, j.empty, j.err = commitLayer(ctx, s, staging, o)
		if j.err != nil || j.empty {
			j.err = errors.Join(j.err, staging.Discard())
		}
	}()
	return j
}

func commitLayer(ctx context.Context, s *store.Store, staging *store.Staging, o LayerOptions) (l store.Layer, empty bool, err error) {
	content, entries, err := describe(ctx, staging.Upper, o)
	if err != nil {
		return store.Layer{}, false, err
	}
	parent, err := o.Parent.Wait(ctx)
	if err != nil {
		return store.Layer{}, false, errors.Join(err, content.TarSplit.Close())
	}
	if entries == 0 && o.SkipEmpty && parent.ID != "" {
		err := content.TarSplit.Close()
		if o.Name != "" {
			// A base in a read-only store cannot be named: the step is then done again next time, at no great cost.
			_ = s.NameLayer(parent.ID, o.Name)
		}
		return parent, true, err
	}
	l, err = apply(s, staging, content, parent.ID, o)
	return l, false, err
}

// describe reads the directory once: digest, size and tar-split of its tar.
func describe(ctx context.Context, upper string, o LayerOptions) (c store.Content, entries int, err error) {
	dir, err := os.Open(upper)
	if err != nil {
		return c, 0, fmt.Errorf("opening the step's files: %w", err)
	}
	defer dir.Close()
	tarSplit, err := linux.Memfd("tar-split")
	if err != nil {
		return c, 0, err
	}
	opts := layer.Options{TarSplit: tarSplit, Epoch: o.Epoch}
	if o.Trusted {
		opts.Xattrs = "trusted.overlay."
	}
	r, err := layer.Write(ctx, dir, nil, opts)
	if err != nil {
		return c, 0, errors.Join(fmt.Errorf("reading the step's files: %w", err), tarSplit.Close())
	}
	return store.Content{DiffID: r.DiffID, Size: r.Size, TarSplit: tarSplit, RootMode: r.RootMode}, r.Entries, nil
}

// apply stores the layer under its name.
func apply(s *store.Store, staging *store.Staging, c store.Content, parent string, o LayerOptions) (store.Layer, error) {
	if o.Name == "" {
		return staging.Apply(c, parent)
	}
	l, err := staging.Apply(c, parent, o.Name)
	if err != nil || !o.Replace || slices.Contains(l.Names, o.Name) {
		return l, err
	}
	return l, s.NameLayer(l.ID, o.Name)
}
