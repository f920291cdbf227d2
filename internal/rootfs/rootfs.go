// Package rootfs declares how a build keeps files: the seam between the step loop and the two
// implementations, overlay mounts (package overlay) and trees in memory (package memory).
//
//	files, err := overlay.Open(store, overlay.Options{})  // or memory.Open: chosen once, by the engine
//	image, stack, err := files.Image(ctx, id)             // FROM
//	l, err := stack.Begin(ctx)                            // a step starts
//	root, err := l.Root(ctx)                              // COPY writes here; RUN mounts l.Mount
//	job, err := l.Commit(ctx, rootfs.CommitOptions{})     // now stack has one layer more
//	err = files.Close()
//
// A [Stack] is the files of a stage: the layers so far, lowest first. A [Layer] is the topmost layer
// while a step writes to it. [Reads] guards the files that a step reads against a tool that removes
// their layers meanwhile.
//
// The package knows no Dockerfile, no cache and no image format.
package rootfs

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/pkg/commit"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

// Backend is where one build keeps files. It is safe for concurrent use.
type Backend interface {
	// Image opens the layers of an image by the ID of its record.
	Image(ctx context.Context, id string) (Image, Stack, error)
	// Scratch returns a Stack without layers: FROM scratch.
	Scratch() (Stack, error)
	// TempDir is the absolute path of a directory for downloads. Close removes it.
	TempDir() string
	// Close ends the backend and all its Stacks. Nothing of the build may run any more.
	Close() error
}

// Image is an image as a Backend found it.
type Image struct {
	ID           string            // of the record
	Config       []byte            // the config document
	ConfigDigest digest.Digest     // of Config
	Annotations  map[string]string // of the manifest; nil: there are none
	// Blobs are the layers that are kept compressed, by the DiffIDs of their plain tars. It is nil if layers are
	// kept as directories.
	Blobs map[digest.Digest]ocispec.Descriptor
}

// Files are files that can be read and mounted: those of a Stack, or of a Layer on its Stack.
type Files interface {
	// View opens the root directory, read-only. The caller closes it.
	View(ctx context.Context) (fdfs.Dir, error)
	// Mount returns the overlay mount that shows the files: writable for a Layer, read-only for a Stack. The paths of
	// the mount, such as /proc/self/fd/7, are valid until the Backend is closed. The error is ErrNoMount if the files
	// are in memory.
	Mount() (overlay.Mount, error)
}

// ErrNoMount is the error of Mount for files in memory.
var ErrNoMount = errors.New("RUN needs a user namespace: files in memory cannot be mounted")

// ErrCloned is the error of adding a layer to a Stack that was cloned: a mistake of the caller.
var ErrCloned = errors.New("a stack that was cloned cannot get another layer")

// Stack is the files of a stage. It is for one goroutine, but View, Mount, Tar and Clone may be called by
// several as long as nothing adds a layer. The Backend closes it.
type Stack interface {
	Files
	Whole
	// Guard watches the layers of the stack, those to come too.
	Guard() Guard
	// Layers returns the layers, lowest first. The upper ones may still be on their way into the store.
	Layers() []*Job
	// Clone returns a Stack of the same layers, to which other layers can be added. The Stack itself gets no more layers
	// afterwards, because clones may read its files late: Push, Begin and the Commit of an open layer return ErrCloned.
	Clone() Stack
	// Push adds a layer that the store has, for example a layer from the cache. The error is fs.ErrNotExist if the layer
	// was removed since it was looked up.
	Push(ctx context.Context, l commit.Layer) error
	// Begin starts a new layer on top. Only one layer can be open.
	Begin(ctx context.Context) (Layer, error)
}

// Layer is a layer that is being written. Commit or Discard ends it.
type Layer interface {
	Files
	// Root opens the root directory of the Layer on its Stack, for writing. The caller closes it.
	Root(ctx context.Context) (fdfs.Dir, error)
	// Apart opens an empty root directory for a layer that does not depend on those below (COPY --link). The layer then
	// holds nothing else. The caller closes it.
	Apart(ctx context.Context) (fdfs.Dir, error)
	// TempDir is a directory beside the layer, for files of a RUN such as its hosts file. It goes when the Layer ends.
	// It is "" if the files are in memory.
	TempDir() string
	// Commit puts the layer on the Stack and starts to store it. It returns at once: the next step may begin while the
	// layer is read and stored, which ends with ctx. After an error the layer is discarded.
	Commit(ctx context.Context, o CommitOptions) (*Job, error)
	// Discard removes what was written.
	Discard() error
}

// Before returns the directories of the files that a Layer shows, topmost first, for another overlay over them: the lower
// directories of its mount, below the upper directory if that has files already.
func Before(m overlay.Mount) ([]string, error) {
	dir, err := os.Open(m.Upper)
	if err != nil {
		return nil, err
	}
	defer dir.Close()

	_, err = dir.Readdirnames(1)
	switch {
	case errors.Is(err, io.EOF):
		return m.Lowers, nil
	case err != nil:
		return nil, err
	}
	return slices.Concat([]string{m.Upper}, m.Lowers), nil
}

// CommitOptions says how a Layer is stored. The zero value keeps times and gives the layer no name.
type CommitOptions struct {
	Times Times
	// Name is the name of the layer in the store, for example "rbuild-cache-1f0c...". The layer that had the name loses
	// it. Empty: none.
	Name string
	// Notes returns what is stored with the layer. It is called when the layer has been read. Nil: nothing.
	Notes func() []byte
	// Sparse is that of commit.TarOptions.
	Sparse func(path string, size, data int64)
}

// Times says what becomes of the modification times of files in new layers. The zero value keeps them.
type Times struct {
	Epoch *time.Time // replaces the times; nil: they are kept
	Clamp bool       // Epoch replaces later times only
}

// Whole is all files of a Stack as one stream or one layer.
type Whole interface {
	// Tar writes a plain tar of all files, flattened.
	Tar(ctx context.Context, w io.Writer, o commit.TarOptions) (commit.Tar, error)
	// Flatten stores all files as one layer on nothing. The Stack stays as it is.
	Flatten(ctx context.Context, o FlattenOptions) (commit.Layer, error)
}

// FlattenOptions says how the layer of Flatten is stored.
type FlattenOptions struct {
	Times Times
	Name  string // as in CommitOptions
	// Owner and Sparse are those of commit.TarOptions.
	Owner  func(uid, gid uint32) error
	Sparse func(path string, size, data int64)
	// Check is called when all files have been read, before the layer is stored. Its error ends Flatten. Nil: none.
	Check func() error
	// Notes returns what is stored with the layer, given what was written. Nil: nothing.
	Notes func(commit.Tar) []byte
}
