package main

import (
	"context"
	"errors"
	"path/filepath"

	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/images/layout"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// imageStore is a store of images for the commands: containers/storage, or the layout of builds
// without a namespace.
type imageStore interface {
	transfer.Store

	// Use keeps other processes from pruning the store until release is called. It waits until ctx
	// ends.
	Use(ctx context.Context) (release func(), err error)
}

// imageStores are the stores that a command works on. An image is looked up in the first store,
// then in the next.
type imageStores []imageStore

// lookup finds the image that a user means by a name, an ID, or the beginning of an ID, and the
// store that has the image. found is the full name, or the ID. The error wraps images.ErrNotFound
// if no store has the image.
func (s imageStores) lookup(name string, n images.Names) (st imageStore, img images.Image, found string, err error) {
	for _, st := range s {
		img, found, lookupErr := images.Lookup(st, name, n)
		if lookupErr == nil {
			return st, img, found, nil
		}
		if !errors.Is(lookupErr, images.ErrNotFound) {
			return nil, images.Image{}, "", lookupErr
		}
		if err == nil {
			err = lookupErr
		}
	}
	return nil, images.Image{}, "", err
}

// layoutDir returns the directory of the images of builds without a namespace, or "" if the store
// has no directory.
func (a *app) layoutDir() string {
	root, _, _ := containers.Locate(a.storeOptions()) // an error is about the driver, which a layout does not need
	if root == "" {
		return ""
	}
	return filepath.Join(root, layoutName)
}

// withImages runs fn with the stores of images: in the namespace the store and, if there is one,
// the layout of builds without a namespace; where no namespace can be made the layout alone, which
// is made if it is missing.
func (a *app) withImages(ctx context.Context, fn func(ctx context.Context, stores imageStores) error) error {
	err := a.withStore(ctx, func(ctx context.Context, st *containers.Store) (err error) {
		stores := imageStores{st}
		if dir := a.layoutDir(); layout.Exists(dir) {
			kept, err := layout.Open(dir, a.sys().TempDir)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, kept.Close()) }()
			stores = append(stores, kept)
		}
		return fn(ctx, stores)
	})
	if err == nil || a.state != nil {
		return err
	}

	kept, err := a.withoutNamespace(err)
	if err != nil {
		return err
	}
	defer a.endAnyway(ctx)()
	return errors.Join(fn(ctx, imageStores{kept.Layout}), kept.Close())
}
