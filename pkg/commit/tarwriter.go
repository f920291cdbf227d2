package commit

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// TarWriter writes the tar of a layer entry by entry, for files that are in no directory. The same
// files give the same bytes as [WriteTar].
//
// The caller adds entries in the order of WriteTar: sorted by the bytes of their names, a directory
// before its entries, and the opaque mark of a directory before the other entries in the directory.
// If a method returns an error, pass the error to Close. Close must be called in any case. A
// TarWriter is not safe for concurrent use.
type TarWriter struct{ t *tarrer }

// TarEntry describes a file, directory, symbolic link or fifo.
type TarEntry struct {
	Path     string      // relative to the root; the path of a directory ends in a slash
	Mode     fs.FileMode // type and permissions, with setuid, setgid and sticky
	UID, GID uint32
	Size     int64 // bytes of a regular file
	ModTime  time.Time
	Target   string            // of a symbolic link
	LinkTo   string            // the path of an earlier entry of the same file; empty: no hard link
	Xattrs   map[string]string // WriteTar's rules decide which attributes the tar contains
}

// NewTarWriter starts a tar. w may be nil if only the digest is needed. The options Merged,
// Trusted, Owner and Sparse have no effect.
func NewTarWriter(w io.Writer, o TarOptions) *TarWriter { return &TarWriter{newTarrer(w, o)} }

// tarTypes maps the types of files to the types of tar entries.
var tarTypes = map[fs.FileMode]byte{
	0: tar.TypeReg, fs.ModeDir: tar.TypeDir, fs.ModeSymlink: tar.TypeSymlink, fs.ModeNamedPipe: tar.TypeFifo,
}

// typeName returns the name of a type that a layer cannot hold, for errors.
func typeName(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSocket != 0:
		return "socket"
	case mode&fs.ModeCharDevice != 0:
		return "character device"
	case mode&fs.ModeDevice != 0:
		return "block device"
	}
	return "file of unknown type"
}

// Root adds the entry "./" of the root directory if the directory differs from TarOptions.Below.
func (w *TarWriter) Root(ctx context.Context, e TarEntry) error {
	own := RootDir{Mode: unixMode(e.Mode), UID: e.UID, GID: e.GID}
	if below := w.t.opts.Below; below == nil || own == *below {
		return nil
	}
	e.Path = "./"
	return w.Add(ctx, e, nil)
}

// Add adds an entry. The content of a regular file is read from content, which may be nil for other
// types. A type that a layer cannot hold, such as a device, is a *RefusedError.
func (w *TarWriter) Add(ctx context.Context, e TarEntry, content io.Reader) error {
	if err := refuseLongPath(e.Path); err != nil {
		return err
	}

	kind, ok := tarTypes[e.Mode.Type()]
	if !ok {
		return &RefusedError{e.Path, fmt.Sprintf("a %s cannot be in a layer", typeName(e.Mode))}
	}

	h := w.t.opts.header(kind, e.Path, unixMode(e.Mode), e.UID, e.GID, e.ModTime.Unix())
	switch {
	case e.LinkTo != "":
		h.Typeflag = tar.TypeLink
		h.Linkname = e.LinkTo
	case kind == tar.TypeSymlink:
		h.Linkname = e.Target
	case kind == tar.TypeReg:
		h.Size = e.Size
		h.PAXRecords = keptRecords(e.Xattrs)
	case kind == tar.TypeDir:
		h.PAXRecords = keptRecords(e.Xattrs)
	}

	return w.t.entry(ctx, h, func(p []byte) (int, error) {
		n, err := content.Read(p)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return n, err
	})
}

// keptRecords returns the PAX records of the extended attributes that a layer keeps.
func keptRecords(xattrs map[string]string) map[string]string {
	var a attributes
	for name, value := range xattrs {
		a.add(noOverlay, name, value)
	}
	return a.kept
}

// Whiteout adds the mark that removes the file name of the directory dir. dir is empty for the
// root, else it ends in a slash.
func (w *TarWriter) Whiteout(ctx context.Context, dir, name string, modTime time.Time) error {
	return w.marker(ctx, dir+whiteoutPrefix+name, modTime)
}

// Opaque adds the mark that hides the entries that lower layers have in the directory dir. dir is
// empty for the root, else it ends in a slash.
func (w *TarWriter) Opaque(ctx context.Context, dir string, modTime time.Time) error {
	return w.marker(ctx, dir+opaqueMarker, modTime)
}

func (w *TarWriter) marker(ctx context.Context, path string, modTime time.Time) error {
	return w.t.entry(ctx, markerHeader(path, w.t.opts.modTime(modTime.Unix())), nil)
}

// Close ends the tar. mode is the mode of the root directory. err is the first error of the methods
// above, or nil; Close returns err with more context, unless the writer of the tar failed first.
func (w *TarWriter) Close(mode fs.FileMode, err error) (Tar, error) {
	const permissions = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	return w.t.end(mode&permissions, err)
}

// unixMode converts the permissions of package os to those of chmod(2).
func unixMode(mode fs.FileMode) uint32 {
	m := uint32(mode.Perm())
	if mode&fs.ModeSetuid != 0 {
		m |= 0o4000
	}
	if mode&fs.ModeSetgid != 0 {
		m |= 0o2000
	}
	if mode&fs.ModeSticky != 0 {
		m |= 0o1000
	}
	return m
}

// fileMode converts the permissions of chmod(2) to those of package os.
func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	if mode&0o4000 != 0 {
		m |= fs.ModeSetuid
	}
	if mode&0o2000 != 0 {
		m |= fs.ModeSetgid
	}
	if mode&0o1000 != 0 {
		m |= fs.ModeSticky
	}
	return m
}
