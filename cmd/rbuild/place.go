package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/cache"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/images/layout"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/internal/rootfs/memory"
	"codeberg.org/rbuild/rbuild/internal/rootfs/overlay"
	"codeberg.org/rbuild/rbuild/internal/transfer"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// images is where a build finds and leaves images: the store, or a layout where no namespace can be made. The calls are
// those of package registry.
type imagePlace interface {
	Pull(ctx context.Context, name string, policy transfer.Policy, o transfer.Options) (id, found string, err error)
	Load(ctx context.Context, name string, o transfer.Options) (id string, err error)
	LoadLayout(ctx context.Context, dir, which string, o transfer.Options) (id string, err error)
	Push(ctx context.Context, image, destination string, o transfer.PushOptions) (ocispec.Descriptor, error)
	// Digest is that of an image's manifest, as the registry of the full name found has it; "": there is no such image.
	Digest(id, found string) digest.Digest
	// NewScratch makes a temporary directory, which release removes.
	NewScratch() (dir string, release func() error, err error)
	// OwnFile is told of a file that is about to be made and is to go if this process dies.
	OwnFile(path string) error
	// prepare has the build use the place. Its plan is made.
	prepare(o *builder.Options) error
}

// storeImages are those of the store.
type storeImages struct {
	*containers.Store
	trusted bool // overlayfs marks are those of real root
}

func (s storeImages) Pull(ctx context.Context, name string, policy transfer.Policy, o transfer.Options) (id, found string, err error) {
	o.MaxLayers = overlay.MaxLayers
	return transfer.Pull(ctx, s.Store, name, policy, o)
}

func (s storeImages) Load(ctx context.Context, name string, o transfer.Options) (string, error) {
	o.MaxLayers = overlay.MaxLayers
	return transfer.Load(ctx, s.Store, name, o)
}

func (s storeImages) LoadLayout(ctx context.Context, dir, which string, o transfer.Options) (string, error) {
	o.MaxLayers = overlay.MaxLayers
	return transfer.LoadLayout(ctx, s.Store, dir, which, o)
}

func (s storeImages) Push(ctx context.Context, image, destination string, o transfer.PushOptions) (ocispec.Descriptor, error) {
	return transfer.Push(ctx, s.Store, image, destination, o)
}

func (s storeImages) NewScratch() (dir string, release func() error, err error) {
	staging, err := s.NewStaging()
	if err != nil {
		return "", nil, err
	}
	return staging.Upper, staging.Discard, nil
}

func (s storeImages) prepare(o *builder.Options) error {
	o.Run.Trusted = s.trusted
	o.Images = s.Store
	o.Cache.Cache = cache.Local(s.Store)
	o.Caches = builder.StoreCaches(s.Store)
	o.Files = func(warn func(string)) (rootfs.Backend, error) {
		return overlay.Open(s.Store, overlay.Options{Trusted: s.trusted, Warn: warn})
	}
	return nil
}

// plainImages are those of a layout, for builds that make no namespace.
type plainImages struct {
	*layout.Layout
	why    error  // there is no namespace
	notice string // says so
	plan   *plan.Plan
}

// layoutName is the directory below the store's root that holds the layout.
const layoutName = "rbuild-layout"

// withoutNamespace opens the layout. err is what a command came back with that wanted a namespace; if that is not why it
// failed, it is returned.
func (a *app) withoutNamespace(err error) (*plainImages, error) {
	var refused *userns.Error
	if a.state != nil || !errors.As(err, &refused) || refused.Reason == userns.Unjoined {
		return nil, err
	}
	return a.openLayout(refused, "building without a user namespace, in memory and without a cache ("+refused.Detail+")")
}

func (a *app) openLayout(why error, notice string) (*plainImages, error) {
	root, _, err := containers.Locate(a.storeOptions())
	if root == "" && err != nil {
		return nil, err
	}
	p := &plainImages{why: why, notice: notice}
	p.Layout, err = layout.Open(filepath.Join(root, layoutName), a.sys().TempDir)
	if err != nil {
		err = fmt.Errorf("%w; builds without RUN need a directory that can be written to, choose it with --root: %w", why, err)
	}
	return p, err
}

// OwnFile does nothing: the layout keeps no record of who works on it.
func (p *plainImages) OwnFile(string) error { return nil }

// Pull pulls an image, unless it is a base that would run something.
func (p *plainImages) Pull(ctx context.Context, name string, policy transfer.Policy, o transfer.Options) (id, found string, err error) {
	o.Config = func(config []byte) error {
		var image instructions.Image
		if err := json.Unmarshal(config, &image); err != nil {
			return fmt.Errorf("reading the config of %s: %w", name, err)
		}
		return p.plan.CheckTriggers(name, image.Config.OnBuild)
	}
	return transfer.Pull(ctx, p.Layout, name, policy, o)
}

// Load reads an image from files.
func (p *plainImages) Load(ctx context.Context, name string, o transfer.Options) (string, error) {
	return transfer.Load(ctx, p.Layout, name, o)
}

// LoadLayout reads an image from an OCI layout.
func (p *plainImages) LoadLayout(ctx context.Context, dir, which string, o transfer.Options) (string, error) {
	return transfer.LoadLayout(ctx, p.Layout, dir, which, o)
}

// Push pushes an image.
func (p *plainImages) Push(ctx context.Context, image, destination string, o transfer.PushOptions) (ocispec.Descriptor, error) {
	return transfer.Push(ctx, p.Layout, image, destination, o)
}

func (p *plainImages) prepare(o *builder.Options) error {
	withoutRun, err := o.Plan.WithoutRun(fmt.Errorf("RUN needs a user namespace: %w; a Dockerfile without RUN is built here as it is", p.why))
	if err != nil {
		return err
	}
	o.Plan, p.plan = withoutRun, withoutRun
	o.Images = p.Layout
	o.Files = func(warn func(string)) (rootfs.Backend, error) { return memory.Open(p.Layout, warn) }
	o.Listener.Event(progress.Event{Kind: progress.Notice, Text: p.notice + "; images are kept in " + p.Dir()})
	return nil
}

// singleImages are those of the store where one id is mapped, until prepare finds that nothing is run.
type singleImages struct {
	imagePlace
	app  *app
	runs bool // something is run, which the plan does not know of
}

func (s *singleImages) prepare(o *builder.Options) error {
	if !s.runs {
		kept, err := s.app.openLayout(s.app.singleOwner(1, 1), "building in memory and without a cache, because files could have one owner only")
		if err != nil {
			return err
		}
		if err = kept.prepare(o); err == nil {
			s.imagePlace = kept
		}
		if refused := (*plan.RunRefused)(nil); !errors.As(err, &refused) {
			return err
		}
	}

	s.app.warn()
	o.Layers.Owner = func(uid, gid uint32) error { return s.app.singleOwner(int(uid), int(gid)) }
	return s.imagePlace.prepare(o)
}

// singleOwner says why files cannot belong to others than root where one id is mapped.
func (a *app) singleOwner(uid, gid int) error {
	if uid == 0 && gid == 0 {
		return nil
	}
	return errors.New(a.state.Warnings[0])
}
