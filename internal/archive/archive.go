// Package archive unpacks tar archives below a directory: a build context, an archive that ADD
// names, a layer or the file system of an image.
//
//	devices, err := archive.ExtractContext(ctx, r, dir)
//
// The name of an entry is taken relative to the directory. Symbolic links that lead to the entry
// resolve inside the directory, as after chroot(2); the entry itself replaces what has its name,
// except that a directory stays a directory. A name that leads out by ".." is an error. So nothing
// outside of the directory is read or written, whatever the archive says (CVE-2024-0406,
// CVE-2026-28406, CVE-2026-42574).
//
// Formats: tar of POSIX.1-2001 (pax), ustar and GNU, with sparse files of GNU, as package
// archive/tar of Go reads them. Where a function says so, the tar may be compressed by gzip, bzip2,
// xz or zstd.
//
// Bounds: 8 Mi entries, 1 TiB of files with their holes, and 32 GiB of zeros or 100 times the bytes
// of the archive as it is stored. Device nodes are left out.
//
// After an error, the entries that were unpacked so far stay.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// ExtractContext unpacks the tar r, plain or compressed, into the directory dir, to be a build
// context. All files belong to the caller.
func ExtractContext(ctx context.Context, r io.Reader, dir string) (Devices, error) {
	root, err := os.Open(dir)
	if err != nil {
		return Devices{}, fmt.Errorf("unpacking the build context: %w", err)
	}
	defer root.Close() // only opened

	x := newExtractor(ctx, fdfs.OnDisk(root), rules{})
	if err := x.extract(r); err != nil {
		return x.devices, fmt.Errorf("unpacking the build context: %w", err)
	}

	return x.devices, nil
}

// ExtractAdded unpacks the tar r, plain or compressed, into the directory dir of an image, as ADD
// does. Files belong to owner, or to the owners of the archive if owner is nil. The caller is root
// of a user namespace in which these owners are mapped. A name that begins with ".wh." is an error,
// because it means a deletion in a layer.
func ExtractAdded(ctx context.Context, r io.Reader, dir fdfs.Dir, owner *fdfs.Owner) (Devices, error) {
	x := newExtractor(ctx, dir, rules{owned: true, owner: owner, strict: true})
	err := x.extract(r)
	return x.devices, err
}

// ExtractImage unpacks the plain tar of an image's merged file system, as commit.WriteTar makes it,
// into the directory dir: with owners, modes, times and extended attributes. The caller is root of
// a user namespace in which all owners are mapped. The attributes of dir itself stay.
func ExtractImage(ctx context.Context, r io.Reader, dir *os.File) error {
	x := newExtractor(ctx, fdfs.OnDisk(dir), rules{owned: true, xattrs: true})
	if err := x.unpack(r); err != nil {
		return fmt.Errorf("unpacking the image: %w", err)
	}
	return nil
}

// ExtractLayer unpacks the plain tar of a layer into dir, an empty directory in memory, with the
// attributes of the root directory. Whiteouts become files named as in the tar, for example
// ".wh.passwd".
func ExtractLayer(ctx context.Context, r io.Reader, dir fdfs.Dir) (Devices, error) {
	x := newExtractor(ctx, dir, rules{owned: true, xattrs: true, root: true})
	err := x.unpack(r)
	return x.devices, err
}

// ExtractFiles unpacks the plain tar of an image's merged file system for the user, into the
// directory dir, which may have content: directories are merged, every other entry is replaced, and
// a symbolic link in dir is never followed. All files belong to the caller, without setuid, setgid
// and extended attributes.
func ExtractFiles(ctx context.Context, r io.Reader, dir *os.File) error {
	return newExtractor(ctx, fdfs.OnDisk(dir), rules{harmless: true}).unpack(r)
}

// CheckName returns an error if name, one component of a path, means a deletion in a layer
// (image-spec layer.md: whiteouts).
func CheckName(name string) error {
	if strings.HasPrefix(name, ".wh.") {
		return fmt.Errorf("%s: a name that begins with .wh. means a deletion in a layer", name)
	}
	return nil
}

// rules are the differences between the functions that unpack. The zero value is a build context.
type rules struct {
	owned    bool        // set owners: owner, or those of the archive
	owner    *fdfs.Owner // replaces the owners of the archive
	strict   bool        // refuse names of whiteouts
	xattrs   bool        // set all extended attributes; without it, the capabilities of files only
	root     bool        // set the attributes of the root directory as well
	harmless bool        // set neither setuid, setgid nor capabilities
}

// modes returns the mode bits that are taken from the archive.
func (r rules) modes() uint32 {
	if r.harmless {
		return 0o1777
	}
	return 0o7777
}

// errLeadsOut is the error about a name that leads out of the directory by "..".
var errLeadsOut = errors.New("the name leads out of the archive")
