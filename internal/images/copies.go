package images

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/types"
)

// Incoming describes an image that package transfer is about to copy into a Store.
type Incoming struct {
	Name     reference.Named  // full name; nil: the image gets no name
	Platform ocispec.Platform // that the copy is for, complete
	Foreign  bool             // Platform is not the host's
	KeepName bool             // the image gets Name even if it is Foreign; see transfer.Options.KeepName
	Registry string           // full name in a registry from which the image comes; "": not from a registry

	// Owner reports why no file on this machine can belong to that user and group; nil: files can
	// belong to anybody.
	Owner func(uid, gid int) error

	// Peek asks the source for the digests of the image's config and manifest.
	Peek func(ctx context.Context) (config, manifest digest.Digest, err error)
}

// Receiver takes one image into a Store.
type Receiver interface {
	// Reference is the destination of the copy. It is nil if the Store has the image already: then
	// nothing is copied.
	Reference() types.ImageReference
	// Finish records the image after the copy and returns its ID. The error wraps [ErrNotFound] if
	// nothing was copied.
	Finish() (id string, err error)
}

// Sender gives one image of a Store to a push.
type Sender interface {
	// Reference is the source of the copy.
	Reference() types.ImageReference
	// Into wraps a destination in a registry, which is then asked for the compressed forms of
	// layers that the Store knows before another form is sent. compressions are the names of the
	// forms that are wanted, for example "gzip".
	Into(dest types.ImageReference, compressions []string) types.ImageReference
	// Sent notes that a registry has the image, as this manifest and under this full name.
	Sent(name reference.Named, manifest []byte) error
}

// WithContext returns a reader that fails with the error of ctx once ctx has ended. Its Close
// closes r.
func WithContext(ctx context.Context, r io.ReadCloser) io.ReadCloser { return &stoppable{ctx, r} }

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
