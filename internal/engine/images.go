package engine

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

// buildImages is where a build finds base images and leaves its image: the store, or a layout where no namespace can be made.
// The calls are those of package transfer.
type buildImages interface {
	Pull(ctx context.Context, name string, policy transfer.Policy, o transfer.Options) (id, found string, err error)
	Load(ctx context.Context, name string, o transfer.Options) (id string, err error)
	LoadLayout(ctx context.Context, dir, which string, o transfer.Options) (id string, err error)
	Push(ctx context.Context, image, destination string, o transfer.PushOptions) (ocispec.Descriptor, error)
	// Digest returns the digest of an image's manifest, as the registry of the full name found has it; empty: there is no
	// such image.
	Digest(id, found string) digest.Digest
	// NewScratch makes a temporary directory, which release removes.
	NewScratch() (dir string, release func() error, err error)
	// OwnFile records a file that is about to be made, and that is removed if this process dies.
	OwnFile(path string) error
	// use makes the build keep its images here. The plan of o is made.
	use(o *builder.Options) error
}

// storeImages are the images of containers/storage.
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

func (s storeImages) use(o *builder.Options) error {
	o.Run.Trusted = s.trusted
	o.Images = s.Store
	o.Cache.Cache = cache.Local(s.Store)
	o.Caches = storeCaches{s.Store}
	o.Files = func(warn func(string)) (rootfs.Backend, error) {
		return overlay.Open(s.Store, overlay.Options{Trusted: s.trusted, Warn: warn})
	}
	return nil
}

// layoutImages are the images of an OCI layout, for builds without a user namespace.
type layoutImages struct {
	*layout.Layout
	why    error  // the reason why there is no namespace
	notice string // reports that
	plan   *plan.Plan
}

// LayoutName is the directory below the store's root that holds the layout.
const LayoutName = "rbuild-layout"

// withoutNamespace opens the layout. err is the error of a command that asked for a namespace. If err has another cause
// than a refused namespace, it is returned.
func (e *Engine) withoutNamespace(err error) (*layoutImages, error) {
	var refused *userns.Error
	if e.State != nil || !errors.As(err, &refused) || refused.Reason == userns.Unjoined {
		return nil, err
	}
	return e.openLayout(refused,
		"building without a user namespace, in memory and without a cache ("+refused.Detail+")")
}

func (e *Engine) openLayout(why error, notice string) (*layoutImages, error) {
	root, _, err := containers.Locate(e.Store)
	if root == "" && err != nil {
		return nil, err
	}

	l := &layoutImages{why: why, notice: notice}
	if l.Layout, err = layout.Open(filepath.Join(root, LayoutName), e.RegistryOptions().TempDir); err != nil {
		return nil, fmt.Errorf("%w; builds without RUN need a directory that can be written to%s: %w", why,
			e.RootRemedy, err)
	}
	return l, nil
}

// OwnFile does nothing: the layout keeps no record of the processes that work on it.
func (l *layoutImages) OwnFile(string) error { return nil }

// Pull pulls an image, unless it is a base whose triggers run a command.
func (l *layoutImages) Pull(ctx context.Context, name string, policy transfer.Policy, o transfer.Options) (id, found string, err error) {
	o.Config = func(config []byte) error { return l.checkTriggers(name, config) }
	return transfer.Pull(ctx, l.Layout, name, policy, o)
}

// Load reads an image from files.
func (l *layoutImages) Load(ctx context.Context, name string, o transfer.Options) (string, error) {
	return transfer.Load(ctx, l.Layout, name, o)
}

// LoadLayout reads an image from an OCI layout.
func (l *layoutImages) LoadLayout(ctx context.Context, dir, which string, o transfer.Options) (string, error) {
	return transfer.LoadLayout(ctx, l.Layout, dir, which, o)
}

// Push pushes an image.
func (l *layoutImages) Push(ctx context.Context, image, destination string, o transfer.PushOptions) (ocispec.Descriptor, error) {
	return transfer.Push(ctx, l.Layout, image, destination, o)
}

func (l *layoutImages) checkTriggers(name string, config []byte) error {
	var image instructions.Image
	if err := json.Unmarshal(config, &image); err != nil {
		return fmt.Errorf("reading the config of %s: %w", name, err)
	}
	return l.plan.CheckTriggers(name, image.Config.OnBuild)
}

func (l *layoutImages) use(o *builder.Options) error {
	withoutRun, err := o.Plan.WithoutRun(fmt.Errorf("RUN needs a user namespace: %w; "+
		"a Dockerfile without RUN is built here as it is", l.why))
	if err != nil {
		return err
	}

	o.Plan = withoutRun
	l.plan = withoutRun
	o.Images = l.Layout
	o.Files = func(warn func(string)) (rootfs.Backend, error) { return memory.Open(l.Layout, warn) }
	o.Listener.Event(progress.Event{Kind: progress.Notice, Text: l.notice + "; images are kept in " + l.Dir()})
	return nil
}

// singleImages are the images of the store in a namespace with a single ID. use replaces the store by the layout if no
// step runs a command, because files in memory have their owners.
type singleImages struct {
	buildImages
	engine *Engine
	runs   bool // a command is run that the plan does not know of
}

func (s *singleImages) use(o *builder.Options) error {
	if !s.runs {
		kept, err := s.engine.openLayout(s.engine.singleOwner(1, 1),
			"building in memory and without a cache, because files could have one owner only")
		if err != nil {
			return err
		}

		err = kept.use(o)
		if refused := (*plan.RunRefused)(nil); err != nil && !errors.As(err, &refused) {
			return err
		}
		if err == nil {
			s.buildImages = kept
			return nil
		}
	}

	s.engine.WarnNamespace()
	o.Layers.Owner = func(uid, gid uint32) error { return s.engine.singleOwner(int(uid), int(gid)) }
	return s.buildImages.use(o)
}

// singleOwner returns the reason why a file cannot belong to another user than root where one ID is mapped; nil for root.
func (e *Engine) singleOwner(uid, gid int) error {
	if uid == 0 && gid == 0 {
		return nil
	}
	return errors.New(e.State.Warnings[0])
}
