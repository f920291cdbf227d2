package memory

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/pkg/commit"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

// stack implements rootfs.Stack by a tree.
type stack struct {
	backend *Backend
	layers  []*rootfs.Job
	load    func(ctx context.Context) (*Tree, error) // reads the tree at its first call
	cloned  atomic.Bool                              // no layer can be added any more
}

// newStack returns a stack without layers. read is called when the files are first looked at.
func (b *Backend) newStack(read func(ctx context.Context) (*Tree, error)) *stack {
	var mu sync.Mutex
	var t *Tree
	var err error
	return &stack{backend: b, load: func(ctx context.Context) (*Tree, error) {
		mu.Lock()
		defer mu.Unlock()
		if t == nil && err == nil {
			t, err = read(ctx)
		}
		return t, err
	}}
}

func (s *stack) View(ctx context.Context) (fdfs.Dir, error) { return s.Root(ctx) }

// Root opens the root directory, for reading and writing.
func (s *stack) Root(ctx context.Context) (fdfs.Dir, error) {
	t, err := s.load(ctx)
	if err != nil {
		return nil, err
	}
	return t.Root(), nil
}

func (s *stack) Mount() (overlay.Mount, error) { return overlay.Mount{}, rootfs.ErrNoMount }

func (s *stack) Guard() rootfs.Guard { return unremovable{} }

// unremovable is the Guard of layers in an OCI layout, whose blobs nobody removes.
type unremovable struct{}

func (unremovable) Hold()        {}
func (unremovable) Held() error  { return nil }
func (unremovable) Check() error { return nil }

func (s *stack) Layers() []*rootfs.Job { return s.layers }

func (s *stack) Clone() rootfs.Stack {
	s.cloned.Store(true)
	c := s.backend.newStack(func(ctx context.Context) (*Tree, error) {
		t, err := s.load(ctx)
		if err != nil {
			return nil, err
		}
		return t.Clone(), nil
	})
	c.layers = slices.Clone(s.layers)
	return c
}

// Push reads the layer from the layout. A layer in a layout has the name of its blob: the digest of its plain tar.
func (s *stack) Push(ctx context.Context, l commit.Layer) error {
	if s.cloned.Load() {
		return rootfs.ErrCloned
	}
	t, err := s.load(ctx)
	if err != nil {
		return err
	}

	blob := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: l.DiffID, Size: -1} // any size
	if err := s.backend.readLayer(ctx, t, l.DiffID, blob); err != nil {
		return fmt.Errorf("reading layer %s: %w", l.DiffID, err)
	}
	s.layers = append(s.layers, rootfs.Stored(l))
	return nil
}

func (s *stack) Tar(ctx context.Context, w io.Writer, o commit.TarOptions) (commit.Tar, error) {
	t, err := s.load(ctx)
	if err != nil {
		return commit.Tar{}, err
	}
	o.Merged = true
	return t.WriteAll(ctx, w, o)
}

func (s *stack) Flatten(ctx context.Context, o rootfs.FlattenOptions) (commit.Layer, error) {
	l, err := s.backend.putLayer(func(w io.Writer) (commit.Tar, error) { return s.Tar(ctx, w, o.Options()) })
	if o.Check != nil {
		if removed := o.Check(); removed != nil {
			err = removed
		}
	}
	return l, err
}

// Begin starts a layer of the tree.
func (s *stack) Begin(ctx context.Context) (rootfs.Layer, error) {
	if s.cloned.Load() {
		return nil, rootfs.ErrCloned
	}
	t, err := s.load(ctx)
	if err != nil {
		return nil, err
	}
	t.Begin()
	return &open{stack: s, tree: t}, nil
}

// open implements rootfs.Layer by the changes of a tree since Begin.
type open struct {
	*stack
	tree *Tree
	link *Tree // of Apart; nil: the layer is a part of tree
}

// Apart makes a tree of its own.
func (l *open) Apart(context.Context) (fdfs.Dir, error) {
	l.link = l.tree.Empty()
	l.link.Begin()
	return l.link.Root(), nil
}

// TempDir is empty: only RUN needs it.
func (l *open) TempDir() string { return "" }

// Discard leaves the changes in the tree: the stage that made them has failed.
func (l *open) Discard() error { return nil }

// Commit writes the layer at once.
func (l *open) Commit(ctx context.Context, o rootfs.CommitOptions) (*rootfs.Job, error) {
	if l.cloned.Load() {
		return nil, rootfs.ErrCloned
	}

	t := commit.TarOptions{}
	files := l.tree
	if l.link != nil {
		files = l.link
	}
	if o.Times.Epoch != nil {
		t.Epoch, t.Clamp = o.Times.Epoch, o.Times.Clamp
		files.SetTimes(*t.Epoch, t.Clamp)
	}

	stored, err := l.backend.putLayer(func(w io.Writer) (commit.Tar, error) { return files.WriteLayer(ctx, w, t) })
	if err != nil {
		return nil, err
	}

	if l.link != nil {
		if err := l.tree.Apply(l.link); err != nil {
			return nil, err
		}
	}

	job := rootfs.Stored(stored)
	l.layers = append(l.layers, job)
	return job, nil
}
