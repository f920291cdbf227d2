package engine

import (
	"context"
	"errors"
	"path/filepath"

	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/images/layout"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// ImageStore is a store of images for the commands: containers/storage, or the layout of builds without a namespace.
type ImageStore interface {
	transfer.Store

	// Use keeps other processes from pruning the store until release is called. It waits until ctx ends.
	Use(ctx context.Context) (release func(), err error)
}

// Stores are the stores that a command works on. An image is looked up in the first store, then in the next.
type Stores []ImageStore

// Lookup finds the image that a user means by a name, an ID, or the beginning of an ID, and the store that has the image.
// found is the full name, or the ID. The error wraps images.ErrNotFound if no store has the image.
func (s Stores) Lookup(name string, n images.Names) (st ImageStore, img images.Image, found string, err error) {
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

// layoutDir returns the directory of the images of builds without a namespace, or "" if the store has no directory.
func (e *Engine) layoutDir() string {
	root, _, _ := containers.Locate(e.Store) // an error is about the driver, which a layout does not need
	if root == "" {
		return ""
	}
	return filepath.Join(root, LayoutName)
}

// WithImages runs fn with the stores of images. In the namespace these are the store and, if there is one, the layout of
// builds without a namespace. Where no namespace can be made, fn has the layout alone, which is made if it is missing.
func (e *Engine) WithImages(ctx context.Context, fn func(ctx context.Context, stores Stores) error) error {
	err := e.WithStore(ctx, func(ctx context.Context, st *containers.Store) (err error) {
		stores := Stores{st}
		if dir := e.layoutDir(); layout.Exists(dir) {
			kept, err := layout.Open(dir, e.RegistryOptions().TempDir)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, kept.Close()) }()
			stores = append(stores, kept)
		}
		return fn(ctx, stores)
	})
	if err == nil || e.State != nil {
		return err
	}

	kept, err := e.withoutNamespace(err)
	if err != nil {
		return err
	}
	defer e.Watch(ctx)()
	return errors.Join(fn(ctx, Stores{kept.Layout}), kept.Close())
}
