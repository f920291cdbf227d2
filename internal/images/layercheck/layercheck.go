// Package layercheck looks into the tar of a layer before anybody unpacks or believes it. [Reader]
// passes the tar on and refuses, at the latest at the end, entries that no honest builder writes
// ([RefusedError]) and files that can belong to nobody on this machine ([OwnerError]). The package
// writes no files.
package layercheck

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

const (
	xattrRecord    = "SCHILY.xattr." // PAX key prefix of an extended attribute
	whiteoutPrefix = ".wh."          // image-spec layer.md, "Whiteouts"
	maxEntrySize   = 1 << 44         // bytes: 16 TiB, the largest file of ext4. A larger size is a lie or a sparse bomb

	// Bounds of the sparse files of a layer. The library writes their holes as zeros: together at
	// most freeSparse bytes, and sparseShare bytes for each byte of the layer as it is stored.
	freeSparse  = 1 << 30
	sparseShare = 100
)

// A RefusedError says that a layer holds an entry that no honest builder writes, and that
// containers/storage or overlayfs would obey.
type RefusedError struct {
	Entry  string // the entry's name as the layer has it
	Reason string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("refusing the layer: entry %q %s", e.Entry, e.Reason)
}

// An OwnerError says that a layer holds a file of a user or group to whom no file on this machine
// can belong.
type OwnerError struct {
	Layer    digest.Digest // as it is in the registry, if that is known
	Path     string
	UID, GID int
	Err      error // why
}

func (e *OwnerError) Error() string {
	return fmt.Sprintf("layer %s: %s belongs to %d:%d, and %v", e.Layer, e.Path, e.UID, e.GID, e.Err)
}

// Unwrap returns the reason.
func (e *OwnerError) Unwrap() error { return e.Err }

// check reads the headers of a layer and returns a *RefusedError for:
//
//   - names with a ".." component: the library cleans them when it unpacks, and opens the recorded
//     name again when it exports the layer;
//   - names below a symbolic link of the same layer that leads out of the image (or might):
//     exporting follows the link outside the store;
//   - *.overlay.* attributes, which overlayfs obeys, so that a layer hides or redirects files
//     without a whiteout;
//   - whiteouts of "", "." and "..";
//   - hard links to device nodes: the library cannot make a link to a node that it may not make;
//   - impossible sizes. (Negative ones are errors of archive/tar.)
//   - sparse files out of proportion to stored, the size of the layer before it was decompressed;
//     0: unknown.
//
// An entry that owner refuses is an *OwnerError; owner may be nil. The result has the names of the
// device nodes of the layer: see [Reader.Devices].
func check(tr *tar.Reader, stored int64, owner func(uid, gid int) error) (devices []string, err error) {
	nodes := make(map[string]struct{})   // devices
	links := make(map[string]string)     // symbolic link -> target
	parents := make(map[string]struct{}) // directories that have entries
	sparse := int64(0)                   // bytes of sparse files
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return slices.Sorted(maps.Keys(nodes)), checkLinks(links, parents)
		}
		if err != nil {
			return nil, fmt.Errorf("reading the layer: %w", err)
		}
		if reason := refuse(hdr); reason != "" {
			return nil, &RefusedError{Entry: hdr.Name, Reason: reason}
		}

		if isSparse(hdr) {
			if sparse += hdr.Size; sparse > freeSparse+sparseShare*stored {
				reason := fmt.Sprintf("is a sparse file: with it the sparse files have %d bytes, the whole layer %d", sparse, stored)
				return nil, &RefusedError{Entry: hdr.Name, Reason: reason}
			}
		}

		name := cleanName(hdr.Name)
		delete(nodes, name)
		switch hdr.Typeflag {
		case tar.TypeChar, tar.TypeBlock:
			nodes[name] = struct{}{}
		case tar.TypeLink:
			if _, ok := nodes[cleanName(hdr.Linkname)]; ok {
				return nil, &RefusedError{Entry: hdr.Name, Reason: fmt.Sprintf("is a hard link to the device %q", hdr.Linkname)}
			}
		}

		if owner != nil {
			if err := owner(hdr.Uid, hdr.Gid); err != nil {
				return nil, &OwnerError{Path: "/" + name, UID: hdr.Uid, GID: hdr.Gid, Err: err}
			}
		}

		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, seen := parents[dir]; seen {
				break
			}
			parents[dir] = struct{}{}
		}

		if hdr.Typeflag == tar.TypeSymlink {
			links[name] = hdr.Linkname
		} else {
			delete(links, name)
		}
	}
}

// isSparse reports whether an entry has holes: old GNU format, or PAX.
func isSparse(hdr *tar.Header) bool {
	if hdr.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// refuse returns the reason to refuse an entry, whatever the other entries are; "": there is none.
func refuse(hdr *tar.Header) string {
	if hasDotDot(hdr.Name) {
		return `has ".." in its name`
	}
	if hdr.Typeflag == tar.TypeLink && hasDotDot(hdr.Linkname) {
		return fmt.Sprintf(`is a hard link to %q, with ".." in it`, hdr.Linkname)
	}

	switch path.Base(cleanName(hdr.Name)) {
	case whiteoutPrefix, whiteoutPrefix + ".", whiteoutPrefix + "..":
		return "is a whiteout of no file"
	}

	if hdr.Size < 0 || hdr.Size > maxEntrySize {
		return fmt.Sprintf("claims a size of %d bytes", hdr.Size)
	}

	for key := range hdr.PAXRecords {
		attr, ok := strings.CutPrefix(key, xattrRecord)
		if ok && (strings.HasPrefix(attr, "user.overlay.") || strings.HasPrefix(attr, "trusted.overlay.")) {
			return fmt.Sprintf("has the attribute %q, by which overlayfs hides or redirects files", attr)
		}
	}

	return ""
}

func hasDotDot(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return true
		}
	}
	return false
}

// cleanName returns name relative to the root of the image, and "." for the root.
func cleanName(name string) string {
	if name = path.Clean("/" + name); name != "/" {
		return name[1:]
	}
	return "."
}

// checkLinks refuses symbolic links that have entries below them, unless the target is relative,
// inside the image, and not reached through another link.
func checkLinks(links map[string]string, parents map[string]struct{}) error {
	for name, target := range links {
		if _, used := parents[name]; !used {
			continue
		}
		dest := path.Join(path.Dir(name), target)
		if path.IsAbs(target) || hasDotDot(dest) || throughLink(links, path.Dir(name)) || throughLink(links, dest) || climbsLate(target) {
			return &RefusedError{Entry: name, Reason: fmt.Sprintf("is a symbolic link to %q and has entries below it", target)}
		}
	}
	return nil
}

// throughLink reports whether name, or a directory above name, is a link.
func throughLink(links map[string]string, name string) bool {
	for ; name != "." && name != "/"; name = path.Dir(name) {
		if _, ok := links[name]; ok {
			return true
		}
	}
	return false
}

// climbsLate reports whether ".." follows a name in target. If that name is itself a link, nobody
// knows where ".." leads.
func climbsLate(target string) bool {
	climbing := true
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if !climbing {
				return true
			}
		default:
			climbing = false
		}
	}

	return false
}
