package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// Writer writes the tar of a layer that lies in no directory, entry by entry, by the rules of Write: what both are given
// the same is written the same. The caller gives the entries in Write's order: names sorted by their bytes, directories
// before what is in them, and the mark of an opaque directory first of that. Close ends it in any case. What went wrong in one call
// the caller hands to Close.
type Writer struct{ t *writer }

// File is an entry.
type File struct {
	Path   string // relative to the root, that of a directory with a slash behind it
	Stat   fdfs.Stat
	Target string            // of a symbolic link
	LinkTo string            // path of an entry before that is the same file; empty: there is none
	Xattrs map[string]string // those that a layer does not keep are left out
}

// NewWriter begins a layer. Of the options Xattrs and Merged mean nothing.
func NewWriter(w io.Writer, o Options) *Writer { return &Writer{newWriter(w, o)} }

// tarTypes are the types that a layer has. A hard link is said by File.LinkTo.
var tarTypes = map[fdfs.Type]byte{
	fdfs.Regular: tar.TypeReg, fdfs.Directory: tar.TypeDir, fdfs.Symlink: tar.TypeSymlink, fdfs.Fifo: tar.TypeFifo,
}

// Root writes the entry of the root directory, if Options.Below asks for it.
func (w *Writer) Root(ctx context.Context, f File) error {
	own := Root{f.Stat.Mode, f.Stat.UID, f.Stat.GID}
	if below := w.t.opts.Below; below == nil || own == *below {
		return nil
	}
	return w.Add(ctx, f, nil)
}

// Add writes an entry; from is the content of a regular file.
func (w *Writer) Add(ctx context.Context, f File, from io.Reader) error {
	if len(f.Path) >= maxPath {
		return &RefusedError{f.Path, fmt.Sprintf("the path has %d bytes, Linux takes at most %d", len(f.Path), maxPath-1)}
	}

	kind, ok := tarTypes[f.Stat.Type]
	if !ok {
		return &RefusedError{f.Path, fmt.Sprintf("a %s cannot be in a layer", f.Stat.Type)}
	}

	h := w.t.opts.header(kind, f.Path, f.Stat.Mode, f.Stat.UID, f.Stat.GID, f.Stat.Mtime.Sec)
	switch {
	case f.LinkTo != "":
	case kind == tar.TypeSymlink:
		h.Linkname = f.Target
	case kind == tar.TypeReg || kind == tar.TypeDir:
		h.Size, h.PAXRecords = f.Stat.Size, w.kept(f.Xattrs)
	}

	if f.LinkTo != "" {
		h.Typeflag, h.Linkname = tar.TypeLink, f.LinkTo
	}
	if h.Typeflag != tar.TypeReg {
		h.Size = 0
	}

	return w.t.entry(ctx, h, func(p []byte) (int, error) {
		n, err := from.Read(p)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return n, err
	})
}

// kept are the records of the attributes that a layer has.
func (w *Writer) kept(xattrs map[string]string) map[string]string {
	var a attributes
	for name, value := range xattrs {
		a.add("\x00", name, value)
	}
	return a.kept
}

// Whiteout says that name of the directory dir, which is empty or ends in a slash, is removed. sec is the time of the entry.
func (w *Writer) Whiteout(ctx context.Context, dir, name string, sec int64) error {
	return w.marker(ctx, dir+whiteoutPrefix+name, sec)
}

// Opaque says that layers below have nothing in the directory dir.
func (w *Writer) Opaque(ctx context.Context, dir string, sec int64) error {
	return w.marker(ctx, dir+opaqueMarker, sec)
}

func (w *Writer) marker(ctx context.Context, path string, sec int64) error {
	return w.t.entry(ctx, markerHeader(path, w.t.opts.modTime(sec)), nil)
}

// Close ends the layer. mode is that of the root directory, err what went wrong before, if anything.
func (w *Writer) Close(mode uint32, err error) (Result, error) { return w.t.end(fileMode(mode), err) }
