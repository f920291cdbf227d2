package transfer

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/types"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// layoutReference is an image of an OCI layout. The library would also read pipes and devices, what a manifest calls
// larger or smaller than it is, and URLs that a manifest names, and would not stop in the middle of a blob.
type layoutReference struct {
	types.ImageReference // of the layout
	dir                  string
	manifest             []byte // or index; verified
	mediaType            string
}

// NewImage picks the image for the platform of sys.
func (l *layoutReference) NewImage(ctx context.Context, sys *types.SystemContext) (types.ImageCloser, error) {
	return image.FromSource(ctx, sys, layoutSource{l})
}

// NewImageSource reads the layout.
func (l *layoutReference) NewImageSource(context.Context, *types.SystemContext) (types.ImageSource, error) {
	return layoutSource{l}, nil
}

type layoutSource struct{ l *layoutReference }

func (s layoutSource) Reference() types.ImageReference { return s.l }
func (s layoutSource) Close() error                    { return nil }
func (s layoutSource) HasThreadSafeGetBlob() bool      { return true }

// GetSignatures finds none: there is no place for them in a layout.
func (s layoutSource) GetSignatures(context.Context, *digest.Digest) ([][]byte, error) {
	return nil, nil
}

// LayerInfosForCopy leaves those of the manifest.
func (s layoutSource) LayerInfosForCopy(context.Context, *digest.Digest) ([]types.BlobInfo, error) {
	return nil, nil
}

// GetManifest gives the manifest, or that of an instance of the index, which the library verifies.
func (s layoutSource) GetManifest(_ context.Context, instance *digest.Digest) ([]byte, string, error) {
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
func (s layoutSource) GetBlob(ctx context.Context, info types.BlobInfo, _ types.BlobInfoCache) (io.ReadCloser, int64, error) {
	path, err := blobPath(s.l.dir, info.Digest)
	if err != nil {
		return nil, 0, err
	}

	f, size, err := fdfs.OpenRegular(path)
	if err != nil {
		return nil, 0, err
	}
	if info.Size >= 0 && info.Size != size {
		f.Close()
		return nil, 0, fmt.Errorf("blob %s has %d bytes, the manifest says %d", info.Digest, size, info.Size)
	}
	return &stoppable{ctx, f}, size, nil
}

// blobPath is where the layout in dir has a blob.
func blobPath(dir string, d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("%q is no digest: %w", d, err)
	}
	return filepath.Join(dir, ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded()), nil
}

// stoppable fails when its context ends.
type stoppable struct {
	ctx context.Context //nolint:containedctx // an io.Reader's Read takes none
	io.ReadCloser
}

func (s *stoppable) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.ReadCloser.Read(p)
}
