package copy

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

	"codeberg.org/rbuild/rbuild/pkg/internal/linux"
)

// paxXattr is before the name of an extended attribute in a tar's records.
const paxXattr = "SCHILY.xattr."

// ExtractImage unpacks the plain tar of an image's flattened file system, as layer.Write makes it, into the directory dir:
// with owners, modes, times, extended attributes and devices. It needs to be root of a user namespace in which all owners
// are mapped. The attributes of dir itself stay.
func ExtractImage(ctx context.Context, r io.Reader, dir *os.File) error {
	x := newExtractor(ctx, linux.OnDisk(dir))
	x.owned, x.image = true, true
	if err := x.unpack(r); err != nil {
		return fmt.Errorf("unpacking the image: %w", err)
	}
	return nil
}

// ExtractLayer unpacks the plain tar of a layer into dir, which is empty and in memory: whiteouts are files there, as the
// tar has them.
func ExtractLayer(ctx context.Context, r io.Reader, dir linux.Dir) error {
	x := newExtractor(ctx, dir)
	x.owned, x.image, x.root = true, true, true
	return x.unpack(r)
}

// ExtractFiles unpacks such a tar for the user, into the directory dir, which may have content: directories are merged,
// all else is replaced, and symbolic links in dir are never followed. Everything belongs to the caller; there are no
// setuid and setgid bits, no extended attributes and no devices. It returns the names of the devices. After an error dir
// holds a part.
func ExtractFiles(ctx context.Context, r io.Reader, dir *os.File) (devices []string, err error) {
	x := newExtractor(ctx, linux.OnDisk(dir))
	x.safe = true
	x.warn = func(_ string, args ...any) { devices = append(devices, fmt.Sprint(args...)) }
	return devices, x.unpack(r)
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
func setDirXattrs(dir linux.Dir, name string, xattrs map[string]string) error {
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

// device is the number of a device.
func device(hdr *tar.Header) uint64 {
	return linux.Device(uint32(hdr.Devmajor), uint32(hdr.Devminor)) //nolint:gosec // the kernel takes no more bits
}
