package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// staging is a directory of a store that is not a layer yet (containers.Staging).
type staging interface {
	// Directory returns the path of the directory.
	Directory() string
	// Commit makes the directory a layer above the layer with the ID parent and ends the staging. The layer gets the name,
	// which another layer loses. An empty parent or name means none.
	Commit(c containers.Content, parent, name string) (commit.Layer, error)
	// Discard removes the directory. After Commit or Discard it does nothing.
	Discard() error
}

// storeOptions control how store makes a layer. Parent is required.
type storeOptions struct {
	Parent *rootfs.Job       // the layer below; rootfs.Stored(commit.Layer{}) for a layer without parent
	Name   string            // name of the layer in the store; empty: no name
	Tar    commit.TarOptions // how the directory is read; TarSplit is set by store
	// Notes returns containers.Content.Notes. It is called after the directory was read. Nil: no notes.
	Notes func() []byte
	// Check is called after the parent was stored and before the layer is stored, and again if
	// storing fails. An error of Check replaces the error of the store. Nil: no check.
	Check func() error
}

// start makes the directory of st a layer in the background. The directory must not change any more, but may be mounted.
// The Job ends st, also after an error.
func start(ctx context.Context, st staging, o storeOptions) *rootfs.Job {
	return rootfs.Go(func() (commit.Layer, error) {
		l, err := store(ctx, st, o)
		if err != nil {
			return commit.Layer{}, errors.Join(err, st.Discard())
		}
		return l, nil
	})
}

// store reads the directory, waits for the parent and makes the directory a layer.
func store(ctx context.Context, st staging, o storeOptions) (commit.Layer, error) {
	content, err := read(ctx, st.Directory(), o.Tar)
	if err != nil {
		return commit.Layer{}, err
	}

	parent, err := ready(ctx, o)
	if err != nil {
		return commit.Layer{}, errors.Join(err, content.TarSplit.Close())
	}

	if o.Notes != nil {
		content.Notes = o.Notes()
	}
	l, err := st.Commit(content, parent.ID, o.Name)
	if err != nil && o.Check != nil {
		if cause := o.Check(); cause != nil { // the parent was removed in the meantime
			return commit.Layer{}, cause
		}
	}
	return l, err
}

// ready waits for the parent and runs the check.
func ready(ctx context.Context, o storeOptions) (parent commit.Layer, err error) {
	parent, err = o.Parent.Wait(ctx)
	if err != nil || o.Check == nil {
		return parent, err
	}
	return parent, o.Check()
}

// read describes the directory at path. The tar-split record is in memory.
func read(ctx context.Context, path string, o commit.TarOptions) (containers.Content, error) {
	dir, err := os.Open(path)
	if err != nil {
		return containers.Content{}, fmt.Errorf("opening the step's files: %w", err)
	}
	defer dir.Close()

	record, err := fdfs.Memfd("tar-split")
	if err != nil {
		return containers.Content{}, err
	}

	o.TarSplit = record
	tar, err := commit.WriteTar(ctx, dir, nil, o)
	if err != nil {
		return containers.Content{}, errors.Join(err, record.Close())
	}

	return containers.Content{DiffID: tar.DiffID, Size: tar.Size, TarSplit: record, RootMode: tar.RootMode}, nil
}
