package commit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
)

// TarOptions control how the tar of a layer is written. The zero value keeps all times and writes
// no tar-split record.
type TarOptions struct {
	// TarSplit receives the tar-split record of the tar as uncompressed JSON lines. Nil: no record.
	TarSplit io.Writer
	// Epoch replaces the modification time of each entry. Nil: the times of the files are kept.
	Epoch *time.Time
	// Clamp limits Epoch to times that are later than Epoch.
	Clamp bool
	// Below holds the attributes of the root directory in the layer below. If the root directory
	// differs, the tar has an entry "./" for it. Nil: the tar has no such entry.
	Below *RootDir
	// Merged says that the directory is the mounted overlay, not its upper directory. The tar then
	// holds all files of the image. Attributes with the names of overlayfs attributes mean nothing,
	// and device nodes are left out: see Tar.Devices.
	Merged bool
	// Trusted says that real root mounted the overlay, so that the attributes of overlayfs are
	// trusted.overlay.*. False: user.overlay.*, as with the mount option userxattr.
	Trusted bool
	// Owner returns an error if no file can belong to the user and group, for example because the
	// user namespace of a reader does not map the IDs. WriteTar then refuses the file. Nil: all
	// owners are allowed.
	Owner func(uid, gid uint32) error
	// Sparse is called for a file that has holes of 1 GiB or more, before the file is read: the
	// holes are not read, but digesting them takes time. size and data count bytes. Sparse may be
	// nil.
	Sparse func(path string, size, data int64)
}

// RootDir holds the attributes of a root directory.
type RootDir struct {
	Mode     uint32 // permission bits with setuid, setgid and sticky: at most 07777
	UID, GID uint32
}

// Tar describes a tar that was written.
type Tar struct {
	// DiffID is the digest of the uncompressed tar.
	DiffID digest.Digest
	// Size is the length of the tar in bytes.
	Size int64
	// Entries counts the entries of the tar. Zero: the directory was empty.
	Entries int
	// Devices counts the device nodes that TarOptions.Merged left out.
	Devices int
	// Device is the path of the first device node that was left out.
	Device string
	// RootMode holds the permissions of the directory itself, with the setuid, setgid and sticky
	// bits of package os.
	RootMode os.FileMode
}

// ErrChanged is wrapped by the error for a file that changed while the directory was read.
var ErrChanged = errors.New("changed while it was read")

// RefusedError is the error for a file that a layer cannot represent.
type RefusedError struct {
	// Path is relative to the directory, without a leading slash. The path of a directory ends in
	// one.
	Path string
	// Reason completes the sentence "PATH: REASON".
	Reason string
}

// Error returns the path, quoted as Go strings are, and the reason.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("%q: %s", e.Path, e.Reason)
}

// refuseLongPath returns an error for a path that Linux cannot open.
func refuseLongPath(path string) error {
	if len(path) < maxPath {
		return nil
	}
	return &RefusedError{path, fmt.Sprintf("the path has %d bytes, Linux takes at most %d", len(path), maxPath-1)}
}
