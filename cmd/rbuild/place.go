package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/pkg/build"
	"codeberg.org/rbuild/rbuild/pkg/progress"
	"codeberg.org/rbuild/rbuild/pkg/registry"
	"codeberg.org/rbuild/rbuild/pkg/store"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// images is where a build finds and leaves images: the store, or a layout where no namespace can be made. The calls are
// those of package registry.
type images interface {
	Pull(ctx context.Context, name string, policy registry.Policy, o registry.Options) (id, found string, err error)
	Load(ctx context.Context, name string, o registry.Options) (id string, err error)
	LoadLayout(ctx context.Context, dir, which string, o registry.Options) (id string, err error)
	Push(ctx context.Context, image, destination string, o registry.PushOptions) (ocispec.Descriptor, error)
	// NewScratch makes a temporary directory, which release removes.
	NewScratch() (dir string, release func() error, err error)
	// OwnFile is told of a file that is about to be made and is to go if this process dies.
	OwnFile(path string) error
	// prepare has the build use the place. Its plan is made.
	prepare(o *build.Options) error
}

// storeImages are those of the store.
type storeImages struct {
	*store.Store
	trusted bool // overlayfs marks are those of real root
}

func (s storeImages) Pull(ctx context.Context, name string, policy registry.Policy, o registry.Options) (id, found string, err error) {
	return registry.Pull(ctx, s.Storage(), name, policy, o)
}

func (s storeImages) Load(ctx context.Context, name string, o registry.Options) (string, error) {
	return registry.Load(ctx, s.Storage(), name, o)
}

func (s storeImages) LoadLayout(ctx context.Context, dir, which string, o registry.Options) (string, error) {
	return registry.LoadLayout(ctx, s.Storage(), dir, which, o)
}

func (s storeImages) Push(ctx context.Context, image, destination string, o registry.PushOptions) (ocispec.Descriptor, error) {
	return registry.Push(ctx, s.Storage(), image, destination, o)
}

func (s storeImages) NewScratch() (dir string, release func() error, err error) {
	staging, err := s.NewStaging()
	if err != nil {
		return "", nil, err
	}
	return staging.Upper, staging.Discard, nil
}

func (s storeImages) prepare(o *build.Options) error {
	o.Store, o.Trusted = s.Store, s.trusted
	return nil
}

// plainImages are those of a layout, for builds that make no namespace.
type plainImages struct {
	*registry.Layout
	why *userns.Error // there is no namespace
}

// layoutName is the directory below the store's root that holds the layout.
const layoutName = "rbuild-layout"

// withoutNamespace opens the layout. err is what a command came back with that wanted a namespace; if that is not why it
// failed, it is returned.
func (a *app) withoutNamespace(err error) (p plainImages, _ error) {
	var refused *userns.Error
	if a.state != nil || !errors.As(err, &refused) {
		return p, err
	}
	return a.openLayout(refused)
}

func (a *app) openLayout(why *userns.Error) (p plainImages, err error) {
	root, _, err := store.Locate(a.storeOptions())
	if root == "" && err != nil {
		return p, err
	}
	p.why = why
	p.Layout, err = registry.OpenLayout(filepath.Join(root, layoutName), a.sys())
	if err != nil {
		err = fmt.Errorf("%w; builds without RUN need a directory that can be written to, choose it with --root: %w", why, err)
	}
	return p, err
}

// OwnFile does nothing: the layout keeps no record of who works on it.
func (p plainImages) OwnFile(string) error { return nil }

func (p plainImages) prepare(o *build.Options) error {
	err := o.Plan.WithoutRun(fmt.Errorf("RUN needs a user namespace: %w; a Dockerfile without RUN is built here as it is", p.why))
	if err != nil {
		return err
	}
	o.Plain = p.Layout
	o.Listener.Event(progress.Event{Kind: progress.Notice, Text: fmt.Sprintf(
		"building without a user namespace, in memory and without a cache; images are kept in %s (%s)", p.Dir(), p.why.Detail,
	)})
	return nil
}
