package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// Bounds of an archive. A few bytes can stand for a terabyte of zeros, so zeros are bounded by the
// size of the archive too.
const (
	maxEntries = 8 << 20
	maxBytes   = 1 << 40  // bytes of all files with their holes
	freeZeros  = 32 << 30 // bytes that may be zeros in any case
	zerosShare = 100      // bytes of zeros for each byte of the archive as it is stored
)

const (
	bufferSize = 1 << 20 // bytes that are read and written at once

	// paxXattr precedes the name of an extended attribute in the records of a tar, for example
	// "SCHILY.xattr.user.kind".
	paxXattr = "SCHILY.xattr."
	// xattrCaps holds the capabilities of an executable (capabilities(7)).
	xattrCaps = "security.capability"
)

// unknownDir is the value of extractor.in while the place of the cursor is unknown. No cleaned name
// has a NUL.
const unknownDir = "\x00"

// extractor unpacks one tar below a directory.
type extractor struct {
	ctx   context.Context //nolint:containedctx // of the one call that the extractor is for
	rules rules

	at   *fdfs.Cursor // stands in the directory of the last entry
	in   string       // the path of that directory as the archive names it, for example "usr/lib", or unknownDir
	back *fdfs.Cursor // finds the targets of hard links

	dirs    []directory     // directories of the archive: their attributes are set at the end
	left    map[string]bool // paths of the devices that were left out
	devices Devices

	source *counter // the archive as it is stored
	bytes  int64    // bytes of all files so far
	zeros  int64    // bytes that became holes so far
	buf    []byte
}

// directory is a directory whose attributes are set after its entries were made: the mode may
// forbid to write into it, and each entry changes its time.
type directory struct {
	path       string
	attributes fdfs.Attributes
}

func newExtractor(ctx context.Context, root fdfs.Dir, r rules) *extractor {
	return &extractor{
		ctx: ctx, rules: r, at: fdfs.NewCursor(root), in: unknownDir, back: fdfs.NewCursor(root),
		left: map[string]bool{}, buf: make([]byte, bufferSize),
	}
}

// counter counts the bytes that are read through it. The decompressor of zstd reads in a goroutine
// of its own.
type counter struct {
	r io.Reader
	n atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// extract unpacks a tar that may be compressed.
func (x *extractor) extract(r io.Reader) error {
	x.source = &counter{r: r}
	plain, err := decompress(x.source)
	if err != nil {
		return err
	}
	defer plain.Close() // only read
	return x.entries(plain)
}

// unpack unpacks a plain tar.
func (x *extractor) unpack(r io.Reader) error {
	x.source = &counter{r: r}
	return x.entries(x.source)
}

func (x *extractor) entries(r io.Reader) error {
	defer x.at.Close()
	defer x.back.Close()

	t := tar.NewReader(r)
	for n := 0; ; n++ {
		hdr, err := t.Next()
		if errors.Is(err, io.EOF) {
			return x.finishDirs()
		}
		if err != nil {
			return err
		}
		if err := x.ctx.Err(); err != nil {
			return err
		}
		if n == maxEntries {
			return fmt.Errorf("the archive has more than %d entries", maxEntries)
		}
		if err := x.entry(hdr, t); err != nil {
			return fmt.Errorf("entry %s: %w", hdr.Name, err)
		}
	}
}

// entryPath returns the path that a name of the archive has below the directory, for example
// "etc/passwd", or "." for the directory itself.
func entryPath(name string) (string, error) {
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", errLeadsOut
	}
	if strings.ContainsRune(clean, 0) {
		return "", errors.New("the name holds a zero byte")
	}
	return clean, nil
}

// entry unpacks one entry. r is its content.
func (x *extractor) entry(hdr *tar.Header, r io.Reader) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader { // defaults that git archive writes
		return nil
	}
	name, err := entryPath(hdr.Name)
	if err != nil {
		return err
	}
	if name == "." && (!x.rules.root || hdr.Typeflag != tar.TypeDir) {
		return nil
	}

	if x.isDevice(hdr) {
		x.devices.Add(hdr.Name)
		x.left[name] = true
		return nil
	}
	delete(x.left, name) // a later entry of that name counts

	attributes, err := x.attributes(hdr)
	if err != nil {
		return err
	}
	if x.rules.strict {
		for part := range strings.SplitSeq(name, "/") {
			if err := CheckName(part); err != nil {
				return err
			}
		}
	}
	if name == "." {
		x.dirs = append(x.dirs, directory{name, attributes})
		return nil
	}

	if err := x.enter(path.Dir(name)); err != nil {
		return err
	}

	return x.make(hdr, r, name, attributes)
}

// isDevice reports whether an entry is a device, or another name of a device that was left out.
func (x *extractor) isDevice(hdr *tar.Header) bool {
	switch hdr.Typeflag {
	case tar.TypeChar, tar.TypeBlock:
		return true
	case tar.TypeLink:
		target, err := entryPath(hdr.Linkname)
		return err == nil && x.left[target]
	}
	return false
}

// attributes returns the attributes of the new inode, without the capabilities of a file.
func (x *extractor) attributes(hdr *tar.Header) (fdfs.Attributes, error) {
	a := fdfs.Attributes{
		Mode:  new(uint32(hdr.Mode) & x.rules.modes()),
		Mtime: &fdfs.Time{Sec: hdr.ModTime.Unix(), Nsec: int64(hdr.ModTime.Nanosecond())},
	}
	if x.rules.xattrs {
		a.Xattrs = xattrs(hdr)
	}

	if !x.rules.owned || x.rules.owner != nil {
		a.Owner = x.rules.owner
		return a, nil
	}
	for _, id := range []int{hdr.Uid, hdr.Gid} {
		if id < 0 || id >= math.MaxUint32 {
			return a, fmt.Errorf("%d is no user or group", id)
		}
	}
	a.Owner = &fdfs.Owner{UID: uint32(hdr.Uid), GID: uint32(hdr.Gid)}
	return a, nil
}

// xattrs returns the extended attributes of an entry, without the capabilities of a file.
func xattrs(hdr *tar.Header) map[string]string {
	var out map[string]string
	for key, value := range hdr.PAXRecords {
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok || name == xattrCaps {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[name] = value
	}

	return out
}

// enter moves x.at to the directory dir of the archive. Consecutive entries of one directory need
// one walk.
func (x *extractor) enter(dir string) error {
	if x.in == dir {
		return nil
	}
	x.in = unknownDir
	if err := x.at.Enter("/"+dir, x.mkdir); err != nil {
		return err
	}
	x.in = dir
	return nil
}

// mkdir makes a directory that has no entry of its own in the archive.
func (x *extractor) mkdir(dir fdfs.Dir, name string) error {
	e := fdfs.Entry{Type: fdfs.Directory, Attributes: fdfs.Attributes{Mode: new(uint32(0o755))}}
	if x.rules.owned {
		if err := CheckName(name); err != nil {
			return err
		}
		e.Owner = &fdfs.Owner{}
		if x.rules.owner != nil {
			e.Owner = x.rules.owner
		}
	}

	return dir.Make(name, e)
}

// make makes the entry name in the directory where x.at stands.
func (x *extractor) make(hdr *tar.Header, r io.Reader, name string, a fdfs.Attributes) error {
	dir := x.at.Dir()
	base := path.Base(name)
	switch hdr.Typeflag {
	case tar.TypeDir:
		x.dirs = append(x.dirs, directory{name, a})
		return ensureDir(dir, base)
	case tar.TypeLink:
		return x.hardLink(hdr.Linkname, dir, base)
	}

	if err := clearWay(dir, base, fdfs.Unknown); err != nil {
		return err
	}
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return x.file(hdr, r, dir, base, a)
	case tar.TypeSymlink:
		a.Xattrs = nil
		return dir.Make(base, fdfs.Entry{Type: fdfs.Symlink, Target: hdr.Linkname, Attributes: a})
	case tar.TypeFifo:
		a.Xattrs = nil
		return dir.Make(base, fdfs.Entry{Type: fdfs.Fifo, Attributes: a})
	}

	return fmt.Errorf("unknown type %q", hdr.Typeflag)
}

// ensureDir makes the directory name unless it exists. Something else of that name is removed.
func ensureDir(dir fdfs.Dir, name string) error {
	if err := clearWay(dir, name, fdfs.Directory); err != nil {
		return err
	}
	if _, err := dir.Stat(name); err == nil {
		return nil
	}
	return dir.Make(name, fdfs.Entry{Type: fdfs.Directory})
}

// clearWay removes name, unless it is missing or of the type keep.
func clearWay(dir fdfs.Dir, name string, keep fdfs.Type) error {
	st, err := dir.Stat(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil || st.Type == keep {
		return err
	}
	return fdfs.RemoveAll(dir, name)
}

// hardLink makes name of dir a hard link to the file that the archive names target.
func (x *extractor) hardLink(target string, dir fdfs.Dir, name string) error {
	clean, err := entryPath(target)
	if err != nil {
		return fmt.Errorf("hard link to %s: %w", target, err)
	}

	parent, base := path.Split(clean)
	if err := x.back.Enter("/"+parent, nil); err != nil {
		return fmt.Errorf("hard link to %s: %w", target, err)
	}
	st, err := x.back.Dir().Stat(base)
	if err != nil {
		return fmt.Errorf("hard link to %s: %w", target, err)
	}

	if old, err := dir.Stat(name); err == nil && old.SameInode(st) {
		return nil
	}
	if err := clearWay(dir, name, fdfs.Unknown); err != nil {
		return err
	}

	return dir.Link(name, x.back.Dir(), base)
}

// file makes a regular file.
func (x *extractor) file(hdr *tar.Header, r io.Reader, dir fdfs.Dir, name string, a fdfs.Attributes) error {
	if hdr.Size > maxBytes || x.bytes+hdr.Size > maxBytes {
		return fmt.Errorf("the files of the archive have more than %d bytes", int64(maxBytes))
	}
	x.bytes += hdr.Size

	f, err := dir.Create(name, hdr.Size)
	if err != nil {
		return err
	}
	return errors.Join(x.fill(f, hdr, r, a), f.Close())
}

// fill writes the content of f and sets its attributes.
func (x *extractor) fill(f fdfs.NewFile, hdr *tar.Header, r io.Reader, a fdfs.Attributes) error {
	if err := x.content(f, r, hdr.Size); err != nil {
		return err
	}

	if err := f.SetAttributes(a); err != nil {
		return err
	}

	caps := hdr.PAXRecords[paxXattr+xattrCaps]
	if caps == "" || x.rules.harmless {
		return nil
	}
	err := f.SetAttributes(fdfs.Attributes{Xattrs: map[string]string{xattrCaps: caps}})
	if !x.rules.owned && errors.Is(err, os.ErrPermission) {
		return nil // the caller is not root of a user namespace, so that COPY could not keep them either
	}

	return err
}

// content copies size bytes of r to f. Long runs of zeros become holes.
func (x *extractor) content(f fdfs.NewFile, r io.Reader, size int64) error {
	out := fdfs.NewSparseWriter(f)
	before := x.zeros
	for off := int64(0); off < size; {
		if err := x.ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(r, x.buf[:min(size-off, int64(len(x.buf)))])
		if err != nil {
			return err
		}
		if _, err := out.Write(x.buf[:n]); err != nil {
			return err
		}
		if err := x.countZeros(before + out.Zeros()); err != nil {
			return err
		}
		off += int64(n)
	}

	return out.Finish()
}

// countZeros notes that the files have total bytes of holes so far, and returns an error if they
// are too many for the archive.
func (x *extractor) countZeros(total int64) error {
	x.zeros = total
	if read := x.source.n.Load(); x.zeros > freeZeros+zerosShare*read {
		return fmt.Errorf("the files of the archive are %d GiB of zeros so far, out of %d bytes that were read: a bomb?",
			x.zeros>>30, read)
	}
	return nil
}

// finishDirs sets the attributes of directories, those of a subdirectory first.
func (x *extractor) finishDirs() error {
	for _, d := range slices.Backward(x.dirs) {
		parent, base := path.Split(d.path)
		if err := x.at.Enter("/"+parent, nil); err != nil {
			continue // a later entry replaced a directory on the way
		}
		st, err := x.at.Dir().Stat(base)
		if err != nil || st.Type != fdfs.Directory {
			continue // a later entry replaced the directory
		}
		if err := x.at.Dir().SetAttributes(base, d.attributes); err != nil {
			return fmt.Errorf("entry %s: %w", d.path, err)
		}
	}

	return nil
}
