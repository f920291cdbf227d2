package memory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/archive"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// Images is where a Backend reads and writes layers: an OCI layout.
type Images interface {
	// Image reads the config of an image by its ID, and the descriptors of its layers as they are kept, lowest first.
	Image(id string) (config []byte, layers []ocispec.Descriptor, err error)
	// Annotations are those of the image's manifest.
	Annotations(id string) (map[string]string, error)
	// Layer opens a layer as a plain tar. At its end it is verified: diffID is the digest that the config names.
	Layer(ctx context.Context, kept ocispec.Descriptor, diffID digest.Digest) (io.ReadCloser, error)
	// PutLayer keeps the plain tar that write writes and whose digest write returns.
	PutLayer(write func(w io.Writer) (digest.Digest, error)) error
	// NewScratch makes a temporary directory, which release removes.
	NewScratch() (dir string, release func() error, err error)
}

// Backend implements rootfs.Backend where nothing can be mounted and no owner be changed. RUN is impossible.
type Backend struct {
	images  Images
	spool   *Spool
	dir     string
	release func() error
	warn    func(text string)
}

// Open starts a Backend. warn shows a warning about an image; nil: warnings are dropped. Close ends the Backend.
func Open(images Images, warn func(text string)) (*Backend, error) {
	dir, release, err := images.NewScratch()
	if err != nil {
		return nil, err
	}

	spool, err := NewSpool(dir)
	if err != nil {
		return nil, errors.Join(err, release())
	}

	if warn == nil {
		warn = func(string) {}
	}
	return &Backend{images: images, spool: spool, dir: dir, release: release, warn: warn}, nil
}

// TempDir is a temporary directory of the layout.
func (b *Backend) TempDir() string { return b.dir }

// Close removes the contents of all files.
func (b *Backend) Close() error { return errors.Join(b.spool.Close(), b.release()) }

// Scratch returns a Stack whose root directory belongs to root and has mode 0755.
func (b *Backend) Scratch() (rootfs.Stack, error) {
	return b.newStack(func(context.Context) (*Tree, error) { return New(b.spool), nil }), nil
}

// Image opens an image of the layout. Its layers are read when their files are first looked at: not at all if nothing is
// copied and no owner is looked up.
func (b *Backend) Image(_ context.Context, id string) (rootfs.Image, rootfs.Stack, error) {
	config, blobs, err := b.images.Image(id)
	if err != nil {
		return rootfs.Image{}, nil, err
	}

	annotations, err := b.images.Annotations(id)
	if err != nil {
		return rootfs.Image{}, nil, err
	}

	ids, err := diffIDs(id, config, blobs)
	if err != nil {
		return rootfs.Image{}, nil, err
	}

	image := rootfs.Image{ID: id, Config: config, ConfigDigest: digest.FromBytes(config), Annotations: annotations}
	image.Blobs = make(map[digest.Digest]ocispec.Descriptor, len(blobs))
	stack := b.newStack(func(ctx context.Context) (*Tree, error) { return b.readLayers(ctx, ids, blobs) })
	if len(ids) == 0 {
		stack = b.newStack(func(context.Context) (*Tree, error) { return New(b.spool), nil })
	}

	for i, blob := range blobs {
		image.Blobs[ids[i]] = blob
		l := commit.Layer{ID: ids[i].Encoded(), DiffID: ids[i], Size: blob.Size}
		stack.layers = append(stack.layers, rootfs.Stored(l))
	}

	return image, stack, nil
}

// diffIDs returns the digests of the layers' plain tars, and refuses documents that do not agree.
func diffIDs(id string, config []byte, blobs []ocispec.Descriptor) ([]digest.Digest, error) {
	var image ocispec.Image
	if err := json.Unmarshal(config, &image); err != nil {
		return nil, fmt.Errorf("reading the config of image %s: %w", id, err)
	}

	ids := image.RootFS.DiffIDs
	if len(ids) != len(blobs) {
		return nil, fmt.Errorf("image %s: its config names %d layers, its manifest %d", id, len(ids), len(blobs))
	}

	for i, sum := range ids {
		if err := sum.Validate(); err != nil {
			return nil, fmt.Errorf("image %s: its config gives layer %d the digest %q: %w", id, i+1, sum, err)
		}
		if blobs[i].Size < 0 {
			return nil, fmt.Errorf("image %s: its manifest gives layer %d the size %d", id, i+1, blobs[i].Size)
		}
	}

	return ids, nil
}

// unsaidRootMode is the mode of the root directory of an image whose layers do not say it: containers/storage gives it
// this mode.
const unsaidRootMode = 0o555

// readLayers reads the files of an image.
func (b *Backend) readLayers(ctx context.Context, ids []digest.Digest, blobs []ocispec.Descriptor) (*Tree, error) {
	whole := New(b.spool)
	if err := whole.Root().SetAttributes(".", fdfs.Attributes{Mode: new(uint32(unsaidRootMode))}); err != nil {
		return nil, err
	}

	for i, blob := range blobs {
		if err := b.readLayer(ctx, whole, ids[i], blob); err != nil {
			return nil, fmt.Errorf("reading layer %s: %w", blob.Digest, err)
		}
	}
	return whole, nil
}

// readLayer reads the files of a layer and puts them on whole.
func (b *Backend) readLayer(ctx context.Context, whole *Tree, diffID digest.Digest, blob ocispec.Descriptor) error {
	files := whole.Empty()
	r, err := b.images.Layer(ctx, blob, diffID)
	if err != nil {
		return err
	}

	devices, err := archive.ExtractLayer(ctx, r, files.Root())
	if text := devices.Text(); text != "" {
		b.warn(fmt.Sprintf("layer %s: %s", blob.Digest, text))
	}
	if err == nil {
		_, err = io.Copy(io.Discard, r) // what follows the end of a tar, up to the verdict
	}
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	return whole.Apply(files)
}

// putLayer keeps the tar that write writes as a layer.
func (b *Backend) putLayer(write func(w io.Writer) (commit.Tar, error)) (l commit.Layer, err error) {
	err = b.images.PutLayer(func(w io.Writer) (digest.Digest, error) {
		r, err := write(w)
		l = commit.Layer{ID: r.DiffID.Encoded(), DiffID: r.DiffID, Size: r.Size, Created: time.Now()}
		return r.DiffID, err
	})
	return l, err
}
