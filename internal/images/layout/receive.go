package layout

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/manifest"
	ocilayout "go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/types"

	"codeberg.org/rbuild/rbuild/internal/images"
)

// Receive begins to keep an image that package transfer copies, with the manifest and the
// compressed layers of its source. Nothing is checked until a build reads the layers; see
// [Layout.Layer].
func (l *Layout) Receive(_ context.Context, in images.Incoming) (images.Receiver, error) {
	ref, err := ocilayout.NewReference(l.dir, "")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.dir, err)
	}
	return &receiver{layout: l, in: in, ref: &keepingReference{ImageReference: ref}}, nil
}

// receiver is the [images.Receiver] of a Layout.
type receiver struct {
	layout *Layout
	in     images.Incoming
	ref    *keepingReference
}

func (r *receiver) Reference() types.ImageReference { return r.ref }

func (r *receiver) Finish() (string, error) {
	raw := r.ref.manifest
	if raw == nil {
		return "", images.ErrNotFound
	}
	if err := r.layout.putBlob(raw); err != nil {
		return "", err
	}

	desc, err := Describe(raw)
	if err != nil {
		return "", err
	}
	k, err := describe(desc, raw)
	if err != nil {
		return "", err
	}
	config, err := r.layout.readBlob(k.manifest.ConfigInfo().Digest)
	if err != nil {
		return "", err
	}

	var names []string
	if r.in.Name != nil {
		names = []string{r.in.Name.String()}
	}
	k.desc.Platform = platformOf(config)
	if err := r.layout.put(k, names, false); err != nil { // sets the ID
		return "", err
	}
	return k.id, nil
}

// keepingReference is the layout as the destination of a copy that changes nothing. The library's
// own destination would turn docker's documents into OCI documents, which have no place for ONBUILD
// and HEALTHCHECK, and write the index without a lock.
type keepingReference struct {
	types.ImageReference
	manifest []byte // that was copied
}

// NewImageDestination writes blobs to the layout.
func (r *keepingReference) NewImageDestination(ctx context.Context, sys *types.SystemContext) (types.ImageDestination, error) {
	dest, err := r.ImageReference.NewImageDestination(ctx, sys)
	if err != nil {
		return nil, err
	}
	return keepingDestination{dest, r}, nil
}

type keepingDestination struct {
	types.ImageDestination
	ref *keepingReference
}

func (d keepingDestination) Reference() types.ImageReference { return d.ref }

func (d keepingDestination) SupportedManifestMIMETypes() []string {
	return []string{ocispec.MediaTypeImageManifest, manifest.DockerV2Schema2MediaType}
}

func (d keepingDestination) DesiredLayerCompression() types.LayerCompression {
	return types.PreserveOriginal
}

func (d keepingDestination) PutManifest(_ context.Context, data []byte, _ *digest.Digest) error {
	d.ref.manifest = slices.Clone(data)
	return nil
}

func (d keepingDestination) Commit(context.Context, types.UnparsedImage) error { return nil }

// Send gives the image with this ID to a push.
func (l *Layout) Send(id string) (images.Sender, error) {
	k, err := l.byID(id)
	if err != nil {
		return nil, err
	}
	ref, err := NewReference(l.dir, k.raw, k.desc.MediaType)
	if err != nil {
		return nil, err
	}
	return sender{ref}, nil
}

// sender is the [images.Sender] of a Layout. Layers are compressed already, so that nothing is
// recorded about them.
type sender struct{ ref types.ImageReference }

func (s sender) Reference() types.ImageReference { return s.ref }

func (s sender) Into(dest types.ImageReference, _ []string) types.ImageReference { return dest }

func (s sender) Sent(reference.Named, []byte) error { return nil }

// errNoStore says that a push to containers-storage: goes nowhere.
var errNoStore = errors.New("there is no store where no user namespace can be made")

// StoreReference always fails: an image of a layout cannot be pushed into the store.
func (l *Layout) StoreReference(_ context.Context, named reference.Named) (types.ImageReference, error) {
	return nil, fmt.Errorf("containers-storage:%s: %w", named, errNoStore)
}

// FindFor finds the image that one of several full names means on a platform, and that name. If the
// layout has a name only for another platform, the error wraps [images.ErrNotFound], found is the
// name and other that platform, for example "linux/arm64".
func (l *Layout) FindFor(names []reference.Named, want ocispec.Platform) (img images.Image, found, other string, err error) {
	for _, name := range names {
		k, err := l.find(func(k *kept) bool {
			if k.name() != name.String() {
				return false
			}
			same, is := k.isFor(want)
			if !same {
				found = name.String()
				other = is
			}
			return same
		})
		if err != nil {
			return images.Image{}, "", "", err
		}
		if k != nil {
			return k.image(), name.String(), "", nil
		}
	}
	return images.Image{}, found, other, images.ErrNotFound
}
