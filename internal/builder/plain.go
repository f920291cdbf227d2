package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/archive"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/rootfs/memory"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// A plain build makes no namespace: where a step of others finds an overlay and fills a directory, it finds a tree in
// memory and changes that. There is no cache, since its steps cost no more than to look one up.

// Images keeps the images of a plain build (registry.Layout).
type Images interface {
	commit.Images
	// Image reads the config of an image by its ID, and what its layers are as they are kept, lowest first.
	Image(id string) (config []byte, layers []ocispec.Descriptor, err error)
	// Annotations are those of the image's manifest.
	Annotations(id string) (map[string]string, error)
	// Layer opens a layer as a plain tar. At its end it is verified: diffID is what the config says.
	Layer(ctx context.Context, kept ocispec.Descriptor, diffID digest.Digest) (io.ReadCloser, error)
	// PutLayer keeps the plain tar that write writes, of which it returns the digest.
	PutLayer(write func(w io.Writer) (digest.Digest, error)) error
	// NewScratch makes a temporary directory.
	NewScratch() (dir string, release func() error, err error)
}

// plain is what the stages of a plain build share.
type plain struct {
	spool *memory.Spool

	mu    sync.Mutex
	blobs map[digest.Digest]ocispec.Descriptor // layers of base images, as they are kept, by their DiffIDs
}

// known are the layers that are kept as they were pulled.
func (p *plain) known() map[digest.Digest]ocispec.Descriptor {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.blobs)
}

func (b *builder) openPlain() error {
	dir, release, err := b.Plain.NewScratch()
	if err != nil {
		return err
	}
	b.scratch = &scratch{Dir: dir, Discard: release}
	if b.plain.spool, err = memory.NewSpool(dir); err != nil {
		return err
	}
	b.scratch.Discard = func() error { return errors.Join(b.plain.spool.Close(), release()) }
	return nil
}

// memoryFiles are the files of a snapshot. Those of a base are read when they are first looked at: not at all if nothing
// is copied.
type memoryFiles struct {
	load func(ctx context.Context) (*memory.Tree, error)
	link *memory.Tree // what a COPY --link makes, until it is a layer; nil: no such step is on its way
}

// lazily makes files of what read returns, when it is first asked for.
func lazily(read func(ctx context.Context) (*memory.Tree, error)) *memoryFiles {
	var mu sync.Mutex
	var t *memory.Tree
	var err error
	return &memoryFiles{load: func(ctx context.Context) (*memory.Tree, error) {
		mu.Lock()
		defer mu.Unlock()
		if t == nil && err == nil {
			t, err = read(ctx)
		}
		return t, err
	}}
}

func (b *builder) emptyFiles() *memoryFiles {
	return lazily(func(context.Context) (*memory.Tree, error) { return memory.New(b.plain.spool), nil })
}

// clone gives a stage files of its own.
func (p *memoryFiles) clone() *memoryFiles {
	return lazily(func(ctx context.Context) (*memory.Tree, error) {
		t, err := p.load(ctx)
		if err != nil {
			return nil, err
		}
		return t.Clone(), nil
	})
}

// root opens the root directory.
func (p *memoryFiles) root(ctx context.Context) (fdfs.Dir, error) {
	t, err := p.load(ctx)
	if err != nil {
		return nil, err
	}
	return t.Root(), nil
}

// begin begins the layer of a step.
func (p *memoryFiles) begin(ctx context.Context) error {
	t, err := p.load(ctx)
	if err == nil {
		t.Begin()
	}
	return err
}

// apart opens an empty root for a layer that does not depend on those below.
func (p *memoryFiles) apart(ctx context.Context) (fdfs.Dir, error) {
	t, err := p.load(ctx)
	if err != nil {
		return nil, err
	}
	p.link = t.Empty()
	p.link.Begin()
	return p.link.Root(), nil
}

// plainImage is openImage for a plain build.
func (b *builder) plainImage(_ context.Context, id string) (*snapshot, error) {
	config, blobs, err := b.Plain.Image(id)
	if err != nil {
		return nil, err
	}

	s := &snapshot{}
	if s.annotations, err = b.Plain.Annotations(id); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(config, &s.config); err != nil {
		return nil, fmt.Errorf("reading the config of image %s: %w", id, err)
	}

	ids := s.config.RootFS.DiffIDs
	if len(ids) != len(blobs) {
		return nil, fmt.Errorf("image %s: its config tells of %d layers, its manifest of %d", id, len(ids), len(blobs))
	}

	for i, sum := range ids {
		if err := sum.Validate(); err != nil {
			return nil, fmt.Errorf("image %s: its config gives layer %d the digest %q: %w", id, i+1, sum, err)
		}
		if blobs[i].Size < 0 {
			return nil, fmt.Errorf("image %s: its manifest gives layer %d the size %d", id, i+1, blobs[i].Size)
		}
	}

	s.config.History = commit.History(s.config.History, len(ids))
	s.origin = &baseImage{id: id, config: s.config}
	b.plain.mu.Lock()
	defer b.plain.mu.Unlock()

	if b.plain.blobs == nil {
		b.plain.blobs = map[digest.Digest]ocispec.Descriptor{}
	}
	for i, blob := range blobs {
		b.plain.blobs[ids[i]] = blob
		s.layers = append(s.layers, commit.Stored(commit.Layer{ID: ids[i].Encoded(), DiffID: ids[i], Size: blob.Size}))
	}

	if len(ids) == 0 {
		s.memory = b.emptyFiles()
		return s, nil
	}

	s.memory = lazily(func(ctx context.Context) (*memory.Tree, error) { return b.readLayers(ctx, ids, blobs) })

	return s, nil
}

// unsaidRootMode is the mode of the root directory of an image whose layers do not say it: that which containers/storage
// gives it.
const unsaidRootMode = 0o555

// readLayers reads the files of an image.
func (b *builder) readLayers(ctx context.Context, ids []digest.Digest, blobs []ocispec.Descriptor) (*memory.Tree, error) {
	whole := memory.New(b.plain.spool)
	if err := whole.Root().SetAttributes(".", fdfs.Attributes{Mode: new(uint32(unsaidRootMode))}); err != nil {
		return nil, err
	}

	for i, blob := range blobs {
		files := whole.Empty()
		r, err := b.Plain.Layer(ctx, blob, ids[i])
		if err != nil {
			return nil, err
		}

		var devices archive.Devices
		devices, err = archive.ExtractLayer(ctx, r, files.Root())
		if text := devices.Text(); text != "" {
			b.warnOnce(fmt.Sprintf("layer %s: %s", blob.Digest, text))
		}
		if err == nil {
			_, err = io.Copy(io.Discard, r) // what follows the end of a tar, up to the verdict
		}
		if err := errors.Join(err, r.Close()); err != nil {
			return nil, fmt.Errorf("reading layer %s: %w", blob.Digest, err)
		}
		if err := whole.Apply(files); err != nil {
			return nil, fmt.Errorf("reading layer %s: %w", blob.Digest, err)
		}
	}

	return whole, nil
}

// plainCommit makes what the step changed the next layer.
func (s *stage) plainCommit(step *plan.Step) error {
	whole, err := s.memory.load(s.interrupt)
	if err != nil {
		return err
	}

	files, o := whole, commit.TarOptions{}
	if s.memory.link != nil {
		files, s.memory.link = s.memory.link, nil
	}
	if s.FileTimes != KeepTimes {
		o.Epoch, o.Clamp = s.Epoch, s.FileTimes == ClampTimes
		files.SetTimes(*s.Epoch, o.Clamp)
	}

	l, err := s.putLayer(s.interrupt, files.WriteLayer, o)
	if err != nil {
		return err
	}

	if files != whole {
		if err := whole.Apply(files); err != nil {
			return err
		}
	}

	s.add(step, commit.Stored(l))

	return nil
}

// putLayer keeps the tar that write writes.
func (b *builder) putLayer(ctx context.Context, write writeTar, o commit.TarOptions) (l commit.Layer, err error) {
	err = b.Plain.PutLayer(func(w io.Writer) (digest.Digest, error) {
		r, err := write(ctx, w, o)
		l = commit.Layer{ID: r.DiffID.Encoded(), DiffID: r.DiffID, Size: r.Size, Created: time.Now()}
		return r.DiffID, err
	})
	return l, err
}

// flattenPlain is flattenInto for a plain build.
func (b *builder) flattenPlain(ctx context.Context, target *snapshot) (l commit.Layer, err error) {
	write, done, err := b.whole(ctx, target)
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, done()) }()
	o := b.flatOptions()
	o.Merged = true
	return b.putLayer(ctx, write, o)
}
