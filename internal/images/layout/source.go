package layout

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/manifest"
	ocilayout "go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/types"

	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// imageReference is an image of an OCI layout. In contrast to the library's own reference it does
// not read pipes and devices, blobs with another size than the manifest gives, and URLs that a
// manifest names, and it stops in the middle of a blob when the context ends.
type imageReference struct {
	types.ImageReference // of the layout
	dir                  string
	manifest             []byte // of an image, or an index; verified
	mediaType            string
}

// NewReference returns a reference to an image of the layout dir. manifest and mediaType come from
// [Find].
func NewReference(dir string, manifest []byte, mediaType string) (types.ImageReference, error) {
	ref, err := ocilayout.NewReference(dir, "")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return &imageReference{ImageReference: ref, dir: dir, manifest: manifest, mediaType: mediaType}, nil
}

// NewImage picks the image for the platform of sys.
func (l *imageReference) NewImage(ctx context.Context, sys *types.SystemContext) (types.ImageCloser, error) {
	return image.FromSource(ctx, sys, imageSource{l})
}

// NewImageSource reads the layout.
func (l *imageReference) NewImageSource(context.Context, *types.SystemContext) (types.ImageSource, error) {
	return imageSource{l}, nil
}

type imageSource struct{ l *imageReference }

func (s imageSource) Reference() types.ImageReference { return s.l }
func (s imageSource) Close() error                    { return nil }
func (s imageSource) HasThreadSafeGetBlob() bool      { return true }

// GetSignatures returns none: a layout has no place for signatures.
func (s imageSource) GetSignatures(context.Context, *digest.Digest) ([][]byte, error) {
	return nil, nil
}

// LayerInfosForCopy returns nil: the layers of the manifest are the layers to copy.
func (s imageSource) LayerInfosForCopy(context.Context, *digest.Digest) ([]types.BlobInfo, error) {
	return nil, nil
}

// GetManifest returns the manifest or index, or the manifest of an instance of the index, which the
// library verifies.
func (s imageSource) GetManifest(_ context.Context, instance *digest.Digest) ([]byte, string, error) {
	if instance == nil {
		return s.l.manifest, s.l.mediaType, nil
	}
	path, err := blobPath(s.l.dir, *instance)
	if err != nil {
		return nil, "", err
	}
	data, err := readBounded(path)
	return data, manifest.GuessMIMEType(data), err
}

// GetBlob opens a blob, which the library verifies.
func (s imageSource) GetBlob(ctx context.Context, info types.BlobInfo, _ types.BlobInfoCache) (io.ReadCloser, int64, error) {
	path, err := blobPath(s.l.dir, info.Digest)
	if err != nil {
		return nil, 0, err
	}

	f, size, err := fdfs.OpenRegular(path)
	if err != nil {
		return nil, 0, err
	}
	if info.Size >= 0 && info.Size != size {
		_ = f.Close() // only its size was read
		return nil, 0, fmt.Errorf("blob %s has %d bytes, the manifest says %d", info.Digest, size, info.Size)
	}
	return images.WithContext(ctx, f), size, nil
}

// blobPath returns the path of a blob in the layout dir, for example DIR/blobs/sha256/ab12….
func blobPath(dir string, d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("%q is no digest: %w", d, err)
	}
	return filepath.Join(dir, ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded()), nil
}
