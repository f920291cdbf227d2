package copier

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// paxXattr is before the name of an extended attribute in a tar's records.
const paxXattr = "SCHILY.xattr."

// ExtractImage unpacks the plain tar of an image's flattened file system, as commit.WriteTar makes it, into the directory dir:
// with owners, modes, times and extended attributes. It needs to be root of a user namespace in which all owners
// are mapped. The attributes of dir itself stay. A device is left out, as commit.WriteTar has done already.
func ExtractImage(ctx context.Context, r io.Reader, dir *os.File) error {
	x := newExtractor(ctx, fdfs.OnDisk(dir))
	x.owned, x.image = true, true
	if err := x.unpack(r); err != nil {
		return fmt.Errorf("unpacking the image: %w", err)
	}
	return nil
}

// ExtractLayer unpacks the plain tar of a layer into dir, which is empty and in memory: whiteouts are files there, as the
// tar has them. It returns the devices that were left out.
func ExtractLayer(ctx context.Context, r io.Reader, dir fdfs.Dir) (Devices, error) {
	x := newExtractor(ctx, dir)
	x.owned, x.image, x.root = true, true, true
	err := x.unpack(r)
	return x.out, err
}

// ExtractFiles unpacks such a tar for the user, into the directory dir, which may have content: directories are merged,
// all else is replaced, and symbolic links in dir are never followed. Everything belongs to the caller; there are no
// setuid and setgid bits, no extended attributes and no devices. After an error dir holds a part.
func ExtractFiles(ctx context.Context, r io.Reader, dir *os.File) error {
	x := newExtractor(ctx, fdfs.OnDisk(dir))
	x.safe = true
	return x.unpack(r)
}

// imageXattrs are the extended attributes of an entry, but for the capabilities of a file, which are set by themselves.
func imageXattrs(hdr *tar.Header) map[string]string {
	var out map[string]string
	for key, value := range hdr.PAXRecords {
		if name, ok := strings.CutPrefix(key, paxXattr); ok && name != xattrCaps {
			if out == nil {
				out = map[string]string{}
			}
			out[name] = value
		}
	}
	return out
}

// setDirXattrs sets the extended attributes of the directory name of dir.
func setDirXattrs(dir fdfs.Dir, name string, xattrs map[string]string) error {
	if len(xattrs) == 0 {
		return nil
	}
	f, err := dir.OpenDir(name)
	if err != nil {
		return err
	}
	return errors.Join(setXattrs(f, xattrs), f.Close())
}

// xattrSetter is a file or a directory.
type xattrSetter interface {
	Setxattr(key string, value []byte) error
}

func setXattrs(f xattrSetter, xattrs map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(xattrs)) {
		if err := f.Setxattr(key, []byte(xattrs[key])); err != nil {
			return err
		}
	}
	return nil
}
