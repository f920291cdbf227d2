package commit

import (
	"archive/tar"
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// WriteTar writes the directory dir to w as the tar of a layer. w may be nil if only the digest and
// the tar-split record are needed. The caller must have permission to read all files below dir, and
// closes dir, w and o.TarSplit.
//
// After an error the bytes in w and o.TarSplit are incomplete. Errors: *RefusedError, ErrChanged,
// errors of the writers, errors of the file system with the path, and the error of ctx.
func WriteTar(ctx context.Context, dir *os.File, w io.Writer, o TarOptions) (Tar, error) {
	t := newTarrer(w, o)
	t.dents = make([]byte, 32<<10)
	mode, err := t.root(ctx, fdfs.FDOf(dir))
	return t.end(mode, err)
}

// inode identifies a file with several names.
type inode struct{ dev, ino uint64 }

// directory holds the attributes of a directory that its entries depend on.
type directory struct {
	fd   fdfs.FD
	path string // "" for the root, else with a trailing slash
	// fileWhiteouts reports that empty regular files may be whiteouts, because overlay's attribute
	// opaque is "x" (Linux 6.7).
	fileWhiteouts bool
}

// open opens the entry name and returns an error unless the file has the type want. path is for
// errors. The caller closes the descriptor.
func (d directory) open(name, path string, want fdfs.Type) (fdfs.FD, fdfs.Stat, error) {
	fd, st, err := d.fd.Open(name)
	if err != nil {
		return fd, st, fdfs.PathError("open", path, err)
	}
	if st.Type != want {
		fd.Close()
		return fd, st, fmt.Errorf("%q: %w", path, ErrChanged)
	}
	return fd, st, nil
}

// root writes everything below the directory fd and returns the permissions of fd itself.
func (t *tarrer) root(ctx context.Context, fd fdfs.FD) (fs.FileMode, error) {
	st, err := fd.Attributes()
	if err != nil {
		return 0, os.NewSyscallError("fstat", err)
	}

	attrs, err := t.attributes(fd, ".")
	if err != nil {
		return 0, err
	}

	own := RootDir{Mode: st.Mode, UID: st.UID, GID: st.GID}
	if below := t.opts.Below; below != nil && own != *below {
		if err := t.entry(ctx, t.header(tar.TypeDir, "./", st), nil); err != nil {
			return 0, err
		}
	}

	return fileMode(st.Mode), t.children(ctx, fd, "", attrs, st)
}

// children writes the entries of a directory. The mark that hides the entries of lower layers comes
// first.
func (t *tarrer) children(ctx context.Context, fd fdfs.FD, path string, attrs attributes, st fdfs.Stat) error {
	if attrs.opaque == "y" {
		if err := t.marker(ctx, path+opaqueMarker, st); err != nil {
			return err
		}
	}

	entries, err := fd.Dirents(t.dents)
	if err != nil {
		return fdfs.PathError("readdir", cmp.Or(path, "."), err)
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

func (t *tarrer) child(ctx context.Context, d directory, e fdfs.Dirent) error {
	path := d.path + e.Name
	if strings.HasPrefix(e.Name, whiteoutPrefix) {
		return &RefusedError{path, "a name that begins with .wh. means a deleted file in a layer"}
	}
	if err := refuseLongPath(path); err != nil {
		return err
	}

	kind := e.Type
	if kind == fdfs.Unknown {
		st, err := d.fd.Stat(e.Name)
		if err != nil {
			return fdfs.PathError("stat", path, err)
		}
		kind = st.Type
	}

	switch kind {
	case fdfs.Directory:
		return t.dir(ctx, d, e.Name, path+"/")
	case fdfs.Regular:
		return t.regular(ctx, d, e.Name, path)
	case fdfs.Socket:
		return nil
	case fdfs.Symlink, fdfs.Fifo, fdfs.CharDevice, fdfs.BlockDevice, fdfs.Unknown:
	}
	return t.special(ctx, d, e.Name, path)
}

func (t *tarrer) dir(ctx context.Context, parent directory, name, path string) error {
	fd, st, err := parent.open(name, path, fdfs.Directory)
	if err != nil {
		return err
	}
	defer fd.Close()

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

func (t *tarrer) regular(ctx context.Context, parent directory, name, path string) error {
	fd, st, err := parent.open(name, path, fdfs.Regular)
	if err != nil {
		return err
	}
	defer fd.Close()

	attrs, err := t.attributes(fd, path)
	if err != nil {
		return err
	}
	if attrs.whiteout && parent.fileWhiteouts && st.Size == 0 {
		return t.marker(ctx, parent.path+whiteoutPrefix+name, st)
	}

	h := t.header(tar.TypeReg, path, st)
	if h.Typeflag == tar.TypeReg {
		h.Size = st.Size
		h.PAXRecords = attrs.kept
	}
	from, err := t.readerOf(fd, path, st)
	if err != nil {
		return err
	}

	return t.entry(ctx, h, from)
}

func (t *tarrer) special(ctx context.Context, parent directory, name, path string) error {
	st, err := parent.fd.Stat(name)
	if err != nil {
		return fdfs.PathError("stat", path, err)
	}

	switch st.Type {
	case fdfs.Symlink:
		return t.symlink(ctx, parent, name, path, st)
	case fdfs.CharDevice:
		if st.Rdev == 0 {
			// No header: all whiteouts of a mount are hard links to one inode.
			return t.marker(ctx, parent.path+whiteoutPrefix+name, st)
		}
		return t.leaveOut(path)
	case fdfs.BlockDevice:
		return t.leaveOut(path)
	case fdfs.Fifo:
		return t.entry(ctx, t.header(tar.TypeFifo, path, st), nil)
	case fdfs.Regular, fdfs.Directory, fdfs.Socket, fdfs.Unknown:
	}
	return fmt.Errorf("%q: %w", path, ErrChanged)
}

func (t *tarrer) symlink(ctx context.Context, parent directory, name, path string, st fdfs.Stat) error {
	target, err := parent.fd.Readlink(name)
	if err != nil {
		return fdfs.PathError("readlink", path, err)
	}

	h := t.header(tar.TypeSymlink, path, st)
	if h.Typeflag == tar.TypeSymlink {
		h.Linkname = target
	}
	return t.entry(ctx, h, nil)
}

// leaveOut leaves out a device node of a merged directory, and refuses a device node of an upper
// directory.
func (t *tarrer) leaveOut(path string) error {
	if !t.opts.Merged {
		return &RefusedError{path, "a device cannot be in a layer"}
	}
	if t.devices == 0 {
		t.device = path
	}
	t.devices++
	return nil
}

// header describes a file: as a hard link if another name of the file has an entry.
func (t *tarrer) header(kind byte, path string, st fdfs.Stat) *tar.Header {
	h := t.opts.header(kind, path, st.Mode, st.UID, st.GID, st.Mtime.Sec)
	if t.opts.Owner != nil && t.refused == nil {
		if err := t.opts.Owner(st.UID, st.GID); err != nil {
			t.refused = &RefusedError{path, fmt.Sprintf("it belongs to others: %v", err)}
		}
	}

	if kind == tar.TypeDir || st.Nlink < 2 {
		return h
	}
	id := inode{st.Dev, st.Ino}
	if first, ok := t.links[id]; ok {
		h.Typeflag = tar.TypeLink
		h.Linkname = first
		return h
	}
	t.links[id] = path

	return h
}

// marker writes a whiteout or the mark of an opaque directory, with the time of the file st.
func (t *tarrer) marker(ctx context.Context, name string, st fdfs.Stat) error {
	return t.entry(ctx, markerHeader(name, t.opts.modTime(st.Mtime.Sec)), nil)
}

// attributes reads the extended attributes of an open file that a layer or overlayfs uses.
func (t *tarrer) attributes(fd fdfs.FD, path string) (attributes, error) {
	var a attributes
	names, err := fd.Xattrs()
	if err != nil {
		return a, fdfs.PathError("listxattr", path, err)
	}

	for _, name := range names {
		if !strings.HasPrefix(name, t.marks) && !keptXattr(name) {
			continue
		}
		value, err := fd.Getxattr(name)
		if err != nil {
			return a, fdfs.PathError("getxattr "+name, path, err)
		}
		a.add(t.marks, name, value)
	}

	if a.forbidden != "" {
		return a, &RefusedError{
			path,
			a.forbidden + " is set: its content is in a lower layer (mount overlay with redirect_dir=off,metacopy=off)",
		}
	}
	return a, nil
}
