package layer

import (
	"fmt"
	"os"
	"path"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

const (
	// minSparse is the size from which holes are looked for, in bytes: a smaller file is read as fast.
	minSparse = 1 << 20
	// LargeHoles is the size of the holes of a file, in bytes, from which Options.Sparse is called.
	LargeHoles = 1 << 30
)

// SparseText returns the warning about a file with large holes, with its size and the size of its data in bytes.
func SparseText(name string, size, data int64) string {
	text := fmt.Sprintf("%s is a sparse file: of its %s only %s are data, but a layer holds all of it, and digesting it takes long",
		name, units.BytesSize(float64(size)), units.BytesSize(float64(data)))
	if base := path.Base(name); base == "lastlog" || base == "faillog" {
		return text + "; a large user id makes it so: give useradd --no-log-init (-l), or remove the file in the same step"
	}
	return text + "; shorten it, or remove it in the same step"
}

// readerOf returns a reader of a regular file. If the file has large holes, it calls Options.Sparse first.
func (t *writer) readerOf(fd int, path string, st *unix.Stat_t) (content, error) {
	whole := func(p []byte) (int, error) { return read(fd, p) }
	if st.Size < minSparse || st.Blocks*blockSize >= st.Size { // st_blocks counts 512 bytes, stat(2)
		return whole, nil
	}

	data, err := fdfs.DataOf(fd, path, st.Size)
	if err != nil {
		return nil, err
	}

	if t.opts.Sparse != nil && st.Size-data >= LargeHoles {
		t.opts.Sparse(path, st.Size, data)
	}

	// Also where all is data, as in a file that the file system compresses: the search has moved the file's own offset.
	h := &holes{fd: fd, path: path, size: st.Size}
	return h.read, nil
}

// holes reads a file without reading its holes.
type holes struct {
	fd         int
	path       string
	size       int64
	off        int64
	start, end int64 // of the next data at or after off; start is size if there is none
}

// read reads on, as read(2). The file must still have its size when the last byte is read.
func (h *holes) read(p []byte) (n int, err error) {
	if h.off < h.size {
		n, err = h.next(p)
	}
	if h.off += int64(n); err == nil && h.off == h.size {
		err = h.unchanged()
	}
	return n, err
}

// next reads at off, which is in the file.
func (h *holes) next(p []byte) (int, error) {
	if h.off >= h.end {
		start, end, ok, err := fdfs.NextDataOf(h.fd, h.path, h.off, h.size)
		if err != nil {
			return 0, err
		}
		if !ok {
			start, end = h.size, h.size
		}
		h.start, h.end = min(start, h.size), min(end, h.size)
	}

	if h.off < h.start {
		n := int(min(int64(len(p)), h.start-h.off))
		clear(p[:n])
		return n, nil
	}

	n := 0
	err := retry(func() (err error) {
		n, err = unix.Pread(h.fd, p[:min(int64(len(p)), h.end-h.off)], h.off)
		return err
	})
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, ErrChanged // it became shorter
	}

	return n, nil
}

// unchanged fails if the file has another size by now: the end of a file that became shorter looks like a hole.
func (h *holes) unchanged() error {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(h.fd, &st) }); err != nil {
		return &os.PathError{Op: "fstat", Path: h.path, Err: err}
	}
	if st.Size != h.size {
		return ErrChanged
	}
	return nil
}
