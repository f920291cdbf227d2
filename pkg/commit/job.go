package commit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/opencontainers/go-digest"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// Layer is a layer of a store. The zero value stands for scratch: no layer.
type Layer struct {
	ID      string        // the store's name for the layer
	Names   []string      // other names of the layer in the store, for example "rbuild-cache-<key>"
	Parent  string        // ID of the layer below; empty: none
	DiffID  digest.Digest // digest of the uncompressed tar
	Size    int64         // bytes of the uncompressed tar
	Created time.Time
}

// Content describes the directory of a [Staging].
type Content struct {
	DiffID   digest.Digest // digest of the uncompressed tar
	Size     int64         // bytes of the uncompressed tar
	TarSplit *os.File      // the tar-split record; the store closes the file
	RootMode os.FileMode   // permissions of the directory itself
	Notes    []byte        // data that the store keeps with the layer; nil: none
}

// Staging is a directory of a store that is not a layer yet.
type Staging interface {
	// Directory returns the path of the directory.
	Directory() string
	// Commit makes the directory a layer above the layer with the ID parent and ends the Staging.
	// The layer gets the name, which another layer loses. An empty parent or name means none.
	Commit(c Content, parent, name string) (Layer, error)
	// Discard removes the directory. After Commit or Discard it does nothing.
	Discard() error
}

// JobOptions control how [Start] makes a layer. Parent is required.
type JobOptions struct {
	Parent *Job       // the layer below; Stored(Layer{}) for a layer without parent
	Name   string     // name of the layer in the store; empty: no name
	Tar    TarOptions // how the directory is read; TarSplit is set by Start
	// Notes returns Content.Notes. It is called after the directory was read. Nil: no notes.
	Notes func() []byte
	// Check is called after the parent was stored and before the layer is stored, and again if
	// storing fails. An error of Check replaces the error of the store. Nil: no check.
	Check func() error
}

// Job is a layer on its way into a store. The next step may run on the directory of the layer, even
// mount it, before the Job is done: only the Job of the next step waits. A Job is safe for
// concurrent use.
type Job struct {
	done   chan struct{}
	layer  Layer
	err    error
	stored bool // made by Stored
}

// Stored returns the finished Job of a layer that the store has already. The zero Layer stands for
// scratch.
func Stored(l Layer) *Job {
	j := &Job{done: make(chan struct{}), layer: l, stored: true}
	close(j.done)
	return j
}

// Start makes the directory of staging a layer in the background. The directory must not change any
// more, but may be mounted. The Job ends the staging, also after an error.
func Start(ctx context.Context, staging Staging, o JobOptions) *Job {
	j := &Job{done: make(chan struct{})}
	go func() {
		defer close(j.done)
		j.layer, j.err = store(ctx, staging, o)
		if j.err != nil {
			j.err = errors.Join(j.err, staging.Discard())
		}
	}()
	return j
}

// Found returns the layer and true if the Job is from [Stored].
func (j *Job) Found() (l Layer, ok bool) {
	if !j.stored {
		return Layer{}, false
	}
	return j.layer, true
}

// Wait waits until the layer is stored and returns the layer. If ctx ends first, Wait returns the
// cause of that and the Job continues.
func (j *Job) Wait(ctx context.Context) (Layer, error) {
	select {
	case <-j.done:
		return j.layer, j.err
	case <-ctx.Done():
		return Layer{}, context.Cause(ctx)
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

// store reads the directory, waits for the parent and makes the directory a layer.
func store(ctx context.Context, staging Staging, o JobOptions) (Layer, error) {
	content, err := read(ctx, staging.Directory(), o.Tar)
	if err != nil {
		return Layer{}, err
	}

	parent, err := ready(ctx, o)
	if err != nil {
		return Layer{}, errors.Join(err, content.TarSplit.Close())
	}

	if o.Notes != nil {
		content.Notes = o.Notes()
	}
	l, err := staging.Commit(content, parent.ID, o.Name)
	if err != nil && o.Check != nil {
		if cause := o.Check(); cause != nil { // the parent was removed in the meantime
			return Layer{}, cause
		}
	}
	return l, err
}

// ready waits for the parent and runs the check.
func ready(ctx context.Context, o JobOptions) (parent Layer, err error) {
	parent, err = o.Parent.Wait(ctx)
	if err != nil || o.Check == nil {
		return parent, err
	}
	return parent, o.Check()
}

// read describes the directory at path. The tar-split record is in memory.
func read(ctx context.Context, path string, o TarOptions) (Content, error) {
	dir, err := os.Open(path)
	if err != nil {
		return Content{}, fmt.Errorf("opening the step's files: %w", err)
	}
	defer dir.Close()

	record, err := fdfs.Memfd("tar-split")
	if err != nil {
		return Content{}, err
	}

	o.TarSplit = record
	tar, err := WriteTar(ctx, dir, nil, o)
	if err != nil {
		return Content{}, errors.Join(err, record.Close())
	}

	return Content{DiffID: tar.DiffID, Size: tar.Size, TarSplit: record, RootMode: tar.RootMode}, nil
}
