// Package overlay keeps the files of a build as overlay mounts of the layers' directories in containers/storage.
//
//	files, err := overlay.Open(store, overlay.Options{Warn: show})
//	image, stack, err := files.Image(ctx, id)   // each layer's directory is pinned by a descriptor
//	l, err := stack.Begin(ctx)                  // a staging directory of the store: the upper directory
//	job, err := l.Commit(ctx, o)                // read once, then renamed into the store: no copy
//
// A layer that another process removes is emptied, which no descriptor prevents. A Stack's Guard reports that
// (rootfs.Guard).
//
// The process must be root of a user namespace with a mount namespace of its own (pkg/userns). With
// Options.Trusted it is the real root.
package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/rootfs"
)

// MaxLayers is how many layers a Stack can have: the lower directories that an overlay takes (fs/overlayfs/params.h,
// OVL_MAX_STACK), less two for the mount points of RUN.
const MaxLayers = 498

// Options says how a Backend mounts. The zero value is for root of a user namespace, and shows no warnings.
type Options struct {
	Trusted bool              // the process is the real root: overlayfs marks are trusted.overlay.*, not user.overlay.*
	Warn    func(text string) // shows an error that ends nothing; nil: such errors are dropped
}

// Backend implements rootfs.Backend.
type Backend struct {
	store   *containers.Store
	o       Options
	scratch *containers.Staging // Upper stays empty: the lower directory of a Stack without layers

	background sync.WaitGroup

	mu    sync.Mutex
	dirs  []*os.File // pinned layers
	holds map[string]*hold
}

// Open starts a Backend on the store. Close ends it.
func Open(store *containers.Store, o Options) (*Backend, error) {
	staging, err := store.NewStaging()
	if err != nil {
		return nil, err
	}

	if err := os.Chmod(staging.Upper, 0o755); err != nil { // as the root of an image from scratch
		return nil, errors.Join(err, staging.Discard())
	}

	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	return &Backend{store: store, o: o, scratch: staging, holds: map[string]*hold{}}, nil
}

// Image opens the layers of an image of the store.
func (b *Backend) Image(_ context.Context, id string) (rootfs.Image, rootfs.Stack, error) {
	image, stack, err := b.openImage(id)
	if err == nil {
		return image, stack, nil
	}

	if _, gone := b.store.Image(id); errors.Is(gone, containers.ErrNoImage) {
		err = fmt.Errorf("image %.12s was removed while the build ran: build again", id)
	}
	return rootfs.Image{}, nil, err
}

func (b *Backend) openImage(id string) (rootfs.Image, rootfs.Stack, error) {
	img, err := b.store.Image(id)
	if err != nil {
		return rootfs.Image{}, nil, err
	}

	chain, err := b.store.Layers(img)
	if err != nil {
		return rootfs.Image{}, nil, err
	}

	dirs, err := b.store.Directories(img.TopLayer)
	if err != nil {
		return rootfs.Image{}, nil, err
	}

	image := rootfs.Image{ID: img.ID, Config: img.Config, ConfigDigest: img.ConfigDigest, Annotations: img.Annotations}
	if len(dirs) == 0 {
		stack, err := b.Scratch()
		return image, stack, err
	}

	s := &stack{backend: b}
	for _, dir := range slices.Backward(dirs) {
		if err := s.pin(dir); err != nil {
			return rootfs.Image{}, nil, err
		}
	}

	for _, l := range chain {
		s.layers = append(s.layers, rootfs.Stored(l.Layer))
	}

	return image, s, nil
}

// Scratch returns a Stack of an empty directory, because an overlay mount needs a lower directory.
func (b *Backend) Scratch() (rootfs.Stack, error) {
	s := &stack{backend: b, bottom: 1}
	if err := s.pin(b.scratch.Upper); err != nil {
		return nil, err
	}
	return s, nil
}

// TempDir is a directory of the store that Close removes.
func (b *Backend) TempDir() string { return b.scratch.Dir }

// Close ends the holds and removes the temporary files. All commits must have ended.
func (b *Backend) Close() error {
	b.background.Wait()
	for _, dir := range b.dirs {
		dir.Close() // was only read through
	}

	b.releaseHolds()
	return b.scratch.Discard()
}
