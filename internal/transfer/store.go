package transfer

import (
	"cmp"
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/types"

	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/images/spool"
)

// Store is a place for images that takes part in pull and push.
type Store interface {
	images.Store

	// FindFor finds the image that one of several full names means on a platform, and that name. If
	// the store has a name only for another platform, the error wraps images.ErrNotFound, found is
	// the name and other that platform.
	FindFor(names []reference.Named, want ocispec.Platform) (img images.Image, found, other string, err error)

	// Receive begins to store an image.
	Receive(ctx context.Context, in images.Incoming) (images.Receiver, error)

	// Send begins to push the image with this ID, after a check of its documents and layers.
	Send(id string) (images.Sender, error)

	// StoreReference is the destination of a push into this store under a full name, for
	// "containers-storage:NAME".
	StoreReference(ctx context.Context, name reference.Named) (types.ImageReference, error)

	// SpoolDir is the directory for the temporary files of copies, with room for layers and private
	// to the user.
	SpoolDir() string
}

// Tidy removes the temporary files that killed processes left of their pulls and pushes. Every
// command that opens the store calls it; if there is nothing to remove, Tidy only lists a
// directory.
func Tidy(st Store, o Options) error { return spool.Tidy(cmp.Or(o.TempDir, st.SpoolDir())) }
