package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/storage/pkg/archive"

	"codeberg.org/rbuild/rbuild/internal/images/layercheck"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// Layer opens a layer as an uncompressed tar. The last Read verifies the digests of the blob and of
// the tar, and the checks of package layercheck; data that was read before may not be believed. The
// caller closes the reader.
func (d *Directory) Layer(ctx context.Context, blob ocispec.Descriptor, diffID digest.Digest) (io.ReadCloser, error) {
	path, err := blobPath(d.dir, blob.Digest)
	if err != nil {
		return nil, err
	}

	f, size, err := fdfs.OpenRegular(path)
	if err != nil {
		return nil, fmt.Errorf("opening layer %s: %w", blob.Digest, err)
	}
	if blob.Size >= 0 && blob.Size != size {
		return nil, errors.Join(fmt.Errorf("layer %s has %d bytes, the manifest says %d", blob.Digest, size, blob.Size), f.Close())
	}

	raw := &verifier{Reader: f, want: blob.Digest, sum: blob.Digest.Verifier()}
	plain, err := archive.DecompressStream(raw)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("decompressing layer %s: %w", blob.Digest, err), f.Close())
	}
	if err := diffID.Validate(); err != nil {
		return nil, errors.Join(fmt.Errorf("layer %s: the config gives it the digest %q", blob.Digest, diffID), plain.Close(), f.Close())
	}

	checked := layercheck.NewReader(ctx, &verifier{Reader: plain, want: diffID, sum: diffID.Verifier()}, size, nil)

	return &layerReader{Reader: checked, raw: raw, plain: plain, file: f}, nil
}

// verifier fails at the end of a stream that has another digest than want.
type verifier struct {
	io.Reader
	want digest.Digest
	sum  digest.Verifier
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.Reader.Read(p)
	_, _ = v.sum.Write(p[:n]) // documented to return nil always
	if errors.Is(err, io.EOF) && !v.sum.Verified() {
		err = fmt.Errorf("the blob of layer %s has another digest", v.want)
	}
	return n, err
}

// layerReader is an open layer.
type layerReader struct {
	*layercheck.Reader
	raw   io.Reader
	plain io.Closer
	file  *os.File
}

// Read reads on. At the end it also reads the bytes of the blob that the decompressor left.
func (r *layerReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		if _, rest := io.Copy(io.Discard, r.raw); rest != nil {
			err = rest
		}
	}
	return n, err
}

// Close closes the layer.
func (r *layerReader) Close() error {
	return errors.Join(r.Reader.Close(), r.plain.Close(), r.file.Close())
}

// PutLayer keeps the uncompressed tar that write writes. write returns the digest of the tar.
func (d *Directory) PutLayer(write func(w io.Writer) (digest.Digest, error)) error {
	return d.replace(func(f *os.File) (string, error) {
		sum, err := write(f)
		if err != nil {
			return "", err
		}
		return blobPath(d.dir, sum)
	})
}
