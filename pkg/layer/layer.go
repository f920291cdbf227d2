// Package layer turns the upper directory of an overlay mount into the tar of an image layer, in one pass.
//
// Write walks the directory through descriptors (no path is ever resolved from the root again), and produces
// at the same time the tar stream, its SHA-256 (the DiffID) and the tar-split record from which the
// containers/storage library rebuilds the same bytes later:
//
//	dir, err := os.Open(upper)
//	res, err := layer.Write(ctx, dir, nil, layer.Options{TarSplit: memfd})
//
// What overlayfs keeps on disk is said in the tar as image-spec layer.md wants it: a whiteout becomes an empty
// file .wh.NAME, an opaque directory holds .wh..wh..opq. Directories that were copied up only because
// something below them changed are entries like any other, as in the layers of other engines. The stream is a
// function of the directory's content alone: entries are sorted by the bytes of their names, directories before
// what is in them, times are whole seconds (as buildah and podman write them), and neither access times nor
// user names are recorded.
//
// Limits, all of them errors that name the path: a file named .wh.* (every reader would take it for a
// whiteout), overlay's redirect and metacopy marks (the directory then is not the whole content), a path of
// 4,096 bytes or more (nothing could unpack it), more than 1 MiB of extended attributes on one file, a file that
// changes while it is read. The root directory itself is no entry unless Options.Below asks; its mode is in Result. Sockets are left out.
//
// A layer has no device nodes: what Merged shows of them is left out and named in Result, in an upper directory one is an
// error, because a step cannot have made it.
//
// Of extended attributes security.capability and user.* are kept, on regular files and directories, the only
// kinds that can have them. POSIX ACLs, security.selinux, security.ima, trusted.* and everything of overlayfs
// are dropped. The directory must not change during the call. Memory stays at a few MiB whatever the size of the
// files, plus the names of the directories on the current path and one name for each hard-linked file. A descriptor is
// open for each level of directories, at most 2,047.
//
// Sources: image-spec v1.1 layer.md; Documentation/filesystems/overlayfs.rst of Linux 6.18 ("whiteouts and opaque
// directories", "nesting overlayfs mounts"); vbatts/tar-split tar/asm for the order of its entries.
package layer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
)

// Options says how a directory is written. The zero value keeps every time and records no tar-split.
type Options struct {
	// TarSplit receives the tar-split record of the stream, as uncompressed JSON lines; nil: none is made.
	TarSplit io.Writer
	// Epoch, when set, replaces the modification time of every entry.
	Epoch *time.Time
	// Clamp makes Epoch replace only the times that are later than it.
	Clamp bool
	// Below is what the root directory of the layer below is like. The root directory has an entry, "./", if its own
	// mode or owner differ from that; nil: it has none.
	Below *Root
	// Xattrs is the prefix under which overlayfs keeps its own attributes; empty: "user.overlay.", what a mount
	// with the option userxattr uses. A mount by the real root uses "trusted.overlay.".
	Xattrs string
	// Owner says why nothing can belong to that user and group, as where their ids are not mapped: such a file is refused.
	// Nil: files can belong to anybody.
	Owner func(uid, gid uint32) error
	// Sparse is called for a file with LargeHoles or more of holes, before the file is read; see SparseText. Holes are not
	// read, but they are digested. Sparse may be nil.
	Sparse func(path string, size, data int64)
	// Merged says that the directory is what an overlay shows, not what it keeps: no attribute in it is a mark of
	// overlayfs, whatever its name. The stream is then the tar of the whole, flattened.
	Merged bool
}

// Root is the mode, with setuid, setgid and sticky, and the owner of a root directory.
type Root struct{ Mode, UID, GID uint32 }

// Result describes the stream that was written.
type Result struct {
	// DiffID is the digest of the uncompressed tar.
	DiffID digest.Digest
	// Size is the length of the tar in bytes.
	Size int64
	// Entries is the number of entries in the tar. Zero: the directory was empty, nothing changed.
	Entries int
	// Devices counts the device nodes that were left out; Device is the path of the first.
	Devices int
	Device  string
	// RootMode holds the permissions of the directory itself, with setuid, setgid and sticky as package os has them.
	RootMode os.FileMode
}

// ErrChanged is wrapped by the error for a file that changed between being listed and being read.
var ErrChanged = errors.New("changed while it was read")

// RefusedError is returned for a file that a layer cannot represent.
type RefusedError struct {
	// Path is relative to the directory, without a leading slash.
	Path string
	// Reason completes the sentence "PATH: ...".
	Reason string
}

// Error gives the path, quoted where it holds unprintable bytes, and the reason.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("%q: %s", e.Path, e.Reason)
}
