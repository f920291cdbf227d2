package copier

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

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// Bounds of an archive: entries, and bytes of all its files with their holes.
const (
	maxEntries = 8 << 20
	maxBytes   = 1 << 40
)

// extractor unpacks a tar below a directory. Each entry goes to where its name leads from there, links inside followed as
// after chroot(2), except the last component, which is replaced. Nothing outside can be named.
type extractor struct {
	ctx    context.Context //nolint:containedctx // of the one call that the extractor is for
	at     *fdfs.Cursor    // parent of the last entry
	back   *fdfs.Cursor    // for what hard links point to
	in     string          // where at stands, as the archive calls it; "\x00" if unknown
	dirs   []extractedDir
	bytes  int64
	zeros  int64    // bytes of zeros that were left to holes
	source *counter // the archive as it is stored
	buf    []byte
	left   map[string]bool // names of devices that were left out
	out    Devices         // all of them

	owned  bool   // owners are set: chown, or those of the archive
	chown  *Owner // over those of the archive
	strict bool   // names that mean a deletion in a layer are refused
	image  bool   // all extended attributes of the archive are set
	root   bool   // the attributes of the directory itself are set
	safe   bool   // neither setuid nor setgid nor capabilities are set
}

// extractedDir is a directory whose metadata is set last, so that it may be read-only and keeps its time.
type extractedDir struct {
	path string
	hdr  meta
}

// meta is what an archive says of an inode.
type meta struct {
	owner Owner
	mode  uint32
	mtime fdfs.Time
	// xattrs are those of files and directories, but for the capabilities of files.
	xattrs map[string]string
}

// ExtractContext unpacks the tar that r gives, plain or compressed by gzip, bzip2, xz or zstd, into the directory dir, to
// be a build context. Owners stay those of the caller and devices are left out. Names are taken relative to dir; one that
// leads out of it by ".." is an error, and symbolic links never do. A tar may have 8 Mi entries and 1 TiB of files. What
// was unpacked before an error stays.
func ExtractContext(ctx context.Context, r io.Reader, dir string) (Devices, error) {
	root, err := os.Open(dir)
	if err != nil {
		return Devices{}, fmt.Errorf("unpacking the build context: %w", err)
	}
	defer root.Close()
	x := newExtractor(ctx, fdfs.OnDisk(root))
	if err := x.extract(r); err != nil {
		return x.out, fmt.Errorf("unpacking the build context: %w", err)
	}
	return x.out, nil
}

func newExtractor(ctx context.Context, root fdfs.Dir) *extractor {
	return &extractor{
		ctx: ctx, at: fdfs.NewCursor(root), back: fdfs.NewCursor(root), in: "\x00", buf: make([]byte, bufferSize), left: map[string]bool{},
	}
}

// extract unpacks all of r.
func (x *extractor) extract(r io.Reader) error {
	x.source = &counter{r: r}
	plain, done, err := decompress(x.source)
	if err != nil {
		return err
	}
	defer done()
	return x.unpack(plain)
}

// unpack unpacks all of a plain tar.
func (x *extractor) unpack(r io.Reader) error {
	defer x.at.Close()
	defer x.back.Close()

	if x.source == nil {
		x.source = &counter{r: r}
		r = x.source
	}

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

// entryName returns a name of an archive relative to where it is unpacked; "." is that directory.
func entryName(name string) (string, error) {
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", errors.New("the name leads out of the archive")
	}
	if strings.ContainsRune(clean, 0) {
		return "", errors.New("the name holds a zero byte")
	}
	return clean, nil
}

func (x *extractor) entry(hdr *tar.Header, r io.Reader) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader { // defaults of git archive
		return nil
	}

	name, err := entryName(hdr.Name)
	if err != nil || name == "." && (!x.root || hdr.Typeflag != tar.TypeDir) {
		return err
	}
	if x.leavesOut(hdr) {
		x.out.add(hdr.Name)
		x.left[name] = true
		return nil
	}

	delete(x.left, name) // a later entry of the name counts
	m, err := x.meta(hdr)
	if err != nil {
		return err
	}

	if x.strict {
		for part := range strings.SplitSeq(name, "/") {
			if err := checkName(part); err != nil {
				return err
			}
		}
	}

	if name == "." {
		x.dirs = append(x.dirs, extractedDir{name, m})
		return nil
	}

	dir, base := path.Split(name)
	if x.in != dir {
		x.in = "\x00"
		if err := x.at.Enter("/"+dir, x.mkdir); err != nil {
			return err
		}
		x.in = dir
	}

	return x.make(hdr, r, base, name, m)
}

// leavesOut reports whether an entry is a device, or another name of a device that was left out.
func (x *extractor) leavesOut(hdr *tar.Header) bool {
	switch hdr.Typeflag {
	case tar.TypeChar, tar.TypeBlock:
		return true
	case tar.TypeLink:
		target, err := entryName(hdr.Linkname)
		return err == nil && x.left[target]
	}
	return false
}

func (x *extractor) meta(hdr *tar.Header) (meta, error) {
	m := meta{
		mode:  uint32(hdr.Mode) & x.modes(),
		mtime: fdfs.Time{Sec: hdr.ModTime.Unix(), Nsec: int64(hdr.ModTime.Nanosecond())},
	}

	if x.image {
		m.xattrs = imageXattrs(hdr)
	}
	if x.chown != nil {
		m.owner = *x.chown
		return m, nil
	}
	if !x.owned {
		return m, nil
	}

	for _, id := range []int{hdr.Uid, hdr.Gid} {
		if id < 0 || id >= math.MaxUint32 {
			return m, fmt.Errorf("%d is no user or group", id)
		}
	}

	m.owner = Owner{uint32(hdr.Uid), uint32(hdr.Gid)}

	return m, nil
}

// modes are the mode bits that are taken from an archive.
func (x *extractor) modes() uint32 {
	if x.safe {
		return 0o1777
	}
	return 0o7777
}

// mkdir makes a directory that the archive does not name, but names something in.
func (x *extractor) mkdir(dir fdfs.Dir, name string) error {
	if !x.owned {
		if err := dir.Mkdir(name, 0o700); err != nil {
			return err
		}
		return dir.Chmod(name, 0o755)
	}
	var o Owner
	if x.chown != nil {
		o = *x.chown
	}
	return makeDir(dir, name, o, 0o755)
}

// make makes the entry base in the directory x.at.
func (x *extractor) make(hdr *tar.Header, r io.Reader, base, name string, m meta) error {
	dir := x.at.Dir()
	switch hdr.Typeflag {
	case tar.TypeDir:
		if err := x.clear(dir, base, fdfs.Directory); err != nil {
			return err
		}
		x.dirs = append(x.dirs, extractedDir{name, m})
		if _, err := dir.Stat(base); err == nil {
			return nil
		}
		return dir.Mkdir(base, 0o700)
	case tar.TypeLink:
		return x.hardLink(hdr.Linkname, dir, base)
	}

	if err := x.clear(dir, base, fdfs.Unknown); err != nil {
		return err
	}

	var err error
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return x.file(hdr, r, dir, base, m)
	case tar.TypeSymlink:
		err = dir.Symlink(hdr.Linkname, base)
	case tar.TypeFifo:
		err = dir.Mknod(base, fdfs.Fifo, 0o600, 0)
	default:
		err = fmt.Errorf("unknown type %q", hdr.Typeflag)
	}
	if err != nil {
		return err
	}

	return x.dress(dir, base, m, hdr.Typeflag == tar.TypeSymlink)
}

// dress gives name of dir its owner, mode and time.
func (x *extractor) dress(dir fdfs.Dir, name string, m meta, symlink bool) error {
	if x.owned {
		if err := dir.Chown(name, m.owner.UID, m.owner.GID); err != nil {
			return err
		}
	}
	if !symlink {
		if err := dir.Chmod(name, m.mode); err != nil {
			return err
		}
	}
	return dir.SetMtime(name, m.mtime)
}

// clear removes what is in the way of an entry: everything but a directory that stays one.
func (x *extractor) clear(dir fdfs.Dir, name string, want fdfs.Type) error {
	st, err := dir.Stat(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil || st.Type == want {
		return err
	}
	return removeAll(dir, name, st.Type)
}

// removeAll removes name of dir and all below it.
func removeAll(dir fdfs.Dir, name string, t fdfs.Type) error {
	if t != fdfs.Directory {
		return dir.Unlink(name)
	}

	sub, err := dir.OpenDir(name)
	if err != nil {
		return err
	}
	defer sub.Close()

	names, err := readNames(sub)
	if err != nil {
		return err
	}

	for _, n := range names {
		st, err := sub.Stat(n)
		if err == nil {
			err = removeAll(sub, n, st.Type)
		}
		if err != nil {
			return err
		}
	}

	return dir.Rmdir(name)
}

// hardLink makes name of dir another name of what the archive calls target.
func (x *extractor) hardLink(target string, dir fdfs.Dir, name string) error {
	clean, err := entryName(target)
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
	if err := x.clear(dir, name, fdfs.Unknown); err != nil {
		return err
	}
	return dir.Link(x.back.Dir(), base, name)
}

// file makes a regular file. Long runs of zeros become holes.
func (x *extractor) file(hdr *tar.Header, r io.Reader, dir fdfs.Dir, name string, m meta) error {
	if x.bytes += hdr.Size; hdr.Size > maxBytes || x.bytes > maxBytes {
		return fmt.Errorf("the files of the archive have more than %d bytes", int64(maxBytes))
	}

	f, err := dir.Create(name, hdr.Size)
	if err != nil {
		return err
	}

	err = x.content(f, r, hdr.Size)
	if err == nil && x.owned {
		err = f.SetOwner(m.owner.UID, m.owner.GID)
	}
	if err == nil {
		err = f.SetMode(m.mode)
	}
	if err == nil {
		err = setXattrs(f, m.xattrs)
	}
	if caps := hdr.PAXRecords[paxXattr+xattrCaps]; err == nil && caps != "" && !x.safe {
		err = f.Setxattr(xattrCaps, []byte(caps))
		if !x.owned && errors.Is(err, os.ErrPermission) { // not root of a user namespace: COPY cannot keep it either
			err = nil
		}
	}

	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}

	return dir.SetMtime(name, m.mtime)
}

func (x *extractor) content(f fdfs.File, r io.Reader, size int64) error {
	for off := int64(0); off < size; {
		if err := x.ctx.Err(); err != nil {
			return err
		}

		n, err := io.ReadFull(r, x.buf[:min(size-off, int64(len(x.buf)))])
		if err != nil {
			return err
		}

		if n < minHole || !allZero(x.buf[:n]) {
			_, err = f.WriteAt(x.buf[:n], off)
		} else {
			err = x.skip(n)
		}
		if err != nil {
			return err
		}
		off += int64(n)
	}

	return f.Truncate(size)
}

// finishDirs sets the metadata of directories, those inside first.
func (x *extractor) finishDirs() error {
	for _, d := range slices.Backward(x.dirs) {
		dir, base := path.Split(d.path)
		if err := x.at.Enter("/"+dir, nil); err != nil {
			continue // replaced by a later entry
		}

		st, err := x.at.Dir().Stat(base)
		if err != nil || st.Type != fdfs.Directory {
			continue
		}

		err = setDirXattrs(x.at.Dir(), base, d.hdr.xattrs)
		if err == nil {
			err = x.dress(x.at.Dir(), base, d.hdr, false)
		}
		if err != nil {
			return fmt.Errorf("entry %s: %w", d.path, err)
		}
	}

	return nil
}
