package layer

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash"
	"hash/crc64"
	"io"
	"os"
	"strings"

	"github.com/vbatts/tar-split/tar/storage"
	"golang.org/x/sys/unix"
)

// blockSize is the unit of a tar: headers and payloads are padded to it, two empty ones end the archive.
const blockSize = 512

// Write streams the directory dir as a layer tar into w, which may be nil when only the digest and the tar-split record
// are wanted. The caller must be able to read everything in it, and closes dir, w and o.TarSplit. After an error what
// w and o.TarSplit received is of no use. Errors: *RefusedError, ErrChanged, those of w and o.TarSplit, those of the
// file system with the path, and that of ctx.
func Write(ctx context.Context, dir *os.File, w io.Writer, o Options) (Result, error) {
	if o.Xattrs == "" {
		o.Xattrs = "user.overlay."
	}
	if o.Merged {
		o.Xattrs = "\x00" // no attribute has such a name
	}
	t := newWriter(w, o)
	t.dents = make([]byte, 32<<10)
	mode, err := t.root(ctx, int(dir.Fd()))
	return t.end(mode, err)
}

func newWriter(w io.Writer, o Options) *writer {
	return &writer{
		opts: o, out: newStream(w), split: newSplitter(o.TarSplit), links: map[inode]string{}, crc: crc64.New(storage.CRCTable),
	}
}

// end ends the stream. err is what went wrong before, if anything.
func (t *writer) end(mode os.FileMode, err error) (Result, error) {
	if err == nil {
		err = t.refused
	}
	if err == nil {
		t.emit(make([]byte, 2*blockSize))
		err = t.split.close()
	}

	id, closeErr := t.out.close()
	if closeErr != nil { // the cause, when err only tells that there is no point in going on
		err = closeErr
	}
	if err != nil {
		return Result{}, fmt.Errorf("making a layer: %w", err)
	}
	return Result{DiffID: id, Size: t.out.size, Entries: t.entries, Devices: t.devices, Device: t.device, RootMode: mode}, nil
}

// errStopped ends the walk when the writer failed; that error is the one that is returned.
var errStopped = errors.New("the layer cannot be written")

type inode struct{ dev, ino uint64 }

// writer holds the state of one Write.
type writer struct {
	opts    Options
	out     *stream
	split   *splitter
	links   map[inode]string // first name of each file that has several
	entries int
	devices int    // that were left out
	device  string // the first of them
	refused error  // by Options.Owner
	crc     hash.Hash64

	head  bytes.Buffer // blocks of the current header
	dents []byte       // buffer for the records of a directory
}

// directory is what the entries of a directory need to know of it.
type directory struct {
	fd   int
	path string // "" for the root, else with a trailing slash
	// fileWhiteouts: overlay's attribute opaque is "x", so that empty regular files may be whiteouts (Linux 6.7).
	fileWhiteouts bool
}

func (t *writer) root(ctx context.Context, fd int) (os.FileMode, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return 0, os.NewSyscallError("fstat", err)
	}

	attrs, err := t.attributes(fd, ".")
	if err != nil {
		return 0, err
	}

	if own := (Root{st.Mode & 0o7777, st.Uid, st.Gid}); t.opts.Below != nil && own != *t.opts.Below {
		if err := t.entry(ctx, t.header(tar.TypeDir, "./", &st), nil); err != nil {
			return 0, err
		}
	}

	return fileMode(st.Mode), t.children(ctx, fd, "", attrs, &st)
}

// children writes what is in a directory: first the mark that hides what lower layers have there.
func (t *writer) children(ctx context.Context, fd int, path string, attrs attributes, st *unix.Stat_t) error {
	if attrs.opaque == "y" {
		if err := t.marker(ctx, path+opaqueMarker, st); err != nil {
			return err
		}
	}

	entries, err := readDir(fd, t.dents)
	if err != nil {
		return &os.PathError{Op: "readdir", Path: cmp.Or(path, "."), Err: err}
	}

	d := directory{fd: fd, path: path, fileWhiteouts: attrs.opaque == "x"}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := t.child(ctx, d, e); err != nil {
			return err
		}
	}

	return nil
}

func (t *writer) child(ctx context.Context, d directory, e dirent) error {
	path := d.path + e.name
	if strings.HasPrefix(e.name, whiteoutPrefix) {
		return &RefusedError{path, "a name that begins with .wh. means a deleted file in a layer"}
	}
	if len(path) >= maxPath {
		return &RefusedError{path, fmt.Sprintf("the path has %d bytes, Linux takes at most %d", len(path), maxPath-1)}
	}

	kind := e.kind
	if kind == unix.DT_UNKNOWN { // the file system does not tell, see getdents(2)
		st, err := statAt(d.fd, e.name, path)
		if err != nil {
			return err
		}
		kind = uint8(st.Mode & unix.S_IFMT >> 12) // DT_* are S_IF* shifted, include/linux/fs_types.h
	}

	switch kind {
	case unix.DT_DIR:
		return t.dir(ctx, d, e.name, path)
	case unix.DT_REG:
		return t.regular(ctx, d, e.name, path)
	case unix.DT_SOCK:
		return nil
	default:
		return t.special(ctx, d, e.name, path)
	}
}

func (t *writer) dir(ctx context.Context, parent directory, name, path string) error {
	fd, st, err := openAt(parent.fd, name, path, unix.S_IFDIR)
	if err != nil {
		return err
	}
	defer closeFD(fd)

	path += "/"
	attrs, err := t.attributes(fd, path)
	if err != nil {
		return err
	}

	h := t.header(tar.TypeDir, path, st)
	h.PAXRecords = attrs.kept
	if err := t.entry(ctx, h, nil); err != nil {
		return err
	}
	return t.children(ctx, fd, path, attrs, st)
}

func (t *writer) regular(ctx context.Context, parent directory, name, path string) error {
	fd, st, err := openAt(parent.fd, name, path, unix.S_IFREG)
	if err != nil {
		return err
	}
	defer closeFD(fd)

	attrs, err := t.attributes(fd, path)
	if err != nil {
		return err
	}
	if attrs.whiteout && parent.fileWhiteouts && st.Size == 0 {
		return t.marker(ctx, parent.path+whiteoutPrefix+name, st)
	}

	h := t.header(tar.TypeReg, path, st)
	if h.Typeflag == tar.TypeReg {
		h.Size, h.PAXRecords = st.Size, attrs.kept
	}
	from, err := t.readerOf(fd, path, st)
	if err != nil {
		return err
	}

	return t.entry(ctx, h, from)
}

func (t *writer) special(ctx context.Context, parent directory, name, path string) error {
	st, err := statAt(parent.fd, name, path)
	if err != nil {
		return err
	}

	var h *tar.Header
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		target, err := readlinkAt(parent.fd, name, path)
		if err != nil {
			return err
		}
		if h = t.header(tar.TypeSymlink, path, st); h.Linkname == "" {
			h.Linkname = target
		}
	case unix.S_IFCHR:
		if st.Rdev == 0 {
			// All whiteouts of a mount are links to one inode, which is why this comes before header.
			return t.marker(ctx, parent.path+whiteoutPrefix+name, st)
		}
		return t.leaveOut(path)
	case unix.S_IFBLK:
		return t.leaveOut(path)
	case unix.S_IFIFO:
		h = t.header(tar.TypeFifo, path, st)
	default:
		return fmt.Errorf("%q: %w", path, ErrChanged)
	}

	return t.entry(ctx, h, nil)
}

// leaveOut leaves a device node out.
func (t *writer) leaveOut(path string) error {
	if !t.opts.Merged {
		return &RefusedError{path, "a device cannot be in a layer"}
	}
	if t.devices == 0 {
		t.device = path
	}
	t.devices++
	return nil
}

// header describes a file; when another name of it was written before, as a hard link to that.
func (t *writer) header(kind byte, path string, st *unix.Stat_t) *tar.Header {
	h := t.opts.header(kind, path, st.Mode, st.Uid, st.Gid, st.Mtim.Sec)
	if t.opts.Owner != nil && t.refused == nil {
		if err := t.opts.Owner(st.Uid, st.Gid); err != nil {
			t.refused = &RefusedError{path, fmt.Sprintf("it belongs to others: %v", err)}
		}
	}

	if kind != tar.TypeDir && st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := t.links[id]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return h
		}
		t.links[id] = path
	}

	return h
}

// marker writes a whiteout or the mark of an opaque directory.
func (t *writer) marker(ctx context.Context, name string, st *unix.Stat_t) error {
	return t.entry(ctx, markerHeader(name, t.opts.modTime(st.Mtim.Sec)), nil)
}

// content reads on in a file, as read(2): 0 is its end.
type content func(p []byte) (int, error)

// entry writes a header and, when it announces a payload, what from reads.
func (t *writer) entry(ctx context.Context, h *tar.Header, from content) error {
	t.head.Reset()
	if err := encode(&t.head, h); err != nil {
		return err
	}

	t.emit(t.head.Bytes())
	var crc []byte
	if h.Size > 0 {
		t.crc.Reset()
		if err := t.payload(ctx, from, h.Size); err != nil {
			return fmt.Errorf("reading %q: %w", h.Name, err)
		}
		crc = t.crc.Sum(nil)
	}

	if err := t.split.file(h.Name, h.Size, crc); err != nil {
		return err
	}

	if rest := h.Size % blockSize; rest > 0 {
		t.emit(make([]byte, blockSize-rest))
	}
	t.entries++

	return nil
}

// emit writes bytes that are not payload.
func (t *writer) emit(p []byte) {
	t.split.raw(p)
	t.out.add(p)
}

// payload reads exactly size bytes into the stream. It always asks for one byte more, so that a file which grew shows
// without another call: a short read of a regular file is its end.
func (t *writer) payload(ctx context.Context, from content, size int64) error {
	for left := size; ; {
		if err := ctx.Err(); err != nil {
			return err
		}

		buf := t.out.tail()
		if t.out.failed.Load() {
			return errStopped
		}

		buf = buf[:min(int64(len(buf)), left+1)]
		n, err := from(buf)
		if err != nil {
			return err
		}
		if int64(n) > left || (n == 0 && left > 0) {
			return ErrChanged
		}

		if t.split != nil {
			t.crc.Write(buf[:n])
		}
		t.out.advance(n)
		left -= int64(n)
		if left == 0 && n < len(buf) {
			return nil
		}
	}
}
