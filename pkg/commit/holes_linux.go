package commit

import (
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/sparse"
)

// minSparse is the size in bytes from which a file is searched for holes. A smaller file is read as
// fast.
const minSparse = 1 << 20

// readerOf returns a reader of a regular file. If the file has large holes, readerOf calls
// TarOptions.Sparse first.
func (t *tarrer) readerOf(fd fdfs.FD, path string, st fdfs.Stat) (content, error) {
	if st.Size < minSparse || st.Blocks*blockSize >= st.Size { // blocks of 512 bytes, as in a tar
		return fd.Read, nil
	}

	data, err := fdfs.DataOf(int(fd), path, st.Size)
	if err != nil {
		return nil, err
	}

	if t.opts.Sparse != nil && st.Size-data >= sparse.Large {
		t.opts.Sparse(path, st.Size, data)
	}

	// A file without holes, such as a file that the file system compresses, needs holes too: the
	// search for data has moved the offset of the descriptor.
	h := &holes{fd: fd, path: path, size: st.Size}
	return h.read, nil
}

// holes reads a sparse file without reading the holes from the file system.
type holes struct {
	fd         fdfs.FD
	path       string
	size       int64
	off        int64
	start, end int64 // of the next data at or after off; start is size if no data follows
}

// read continues to read as read(2) does. The file must have the same size when the last byte is
// read.
func (h *holes) read(p []byte) (n int, err error) {
	if h.off < h.size {
		n, err = h.next(p)
		if err != nil {
			return n, err
		}
		h.off += int64(n)
	}
	if h.off == h.size {
		return n, h.unchanged()
	}
	return n, nil
}

// next reads at off, which is below size.
func (h *holes) next(p []byte) (int, error) {
	if h.off >= h.end {
		if err := h.seek(); err != nil {
			return 0, err
		}
	}

	if h.off < h.start {
		n := int(min(int64(len(p)), h.start-h.off))
		clear(p[:n])
		return n, nil
	}

	n, err := h.fd.Pread(p[:min(int64(len(p)), h.end-h.off)], h.off)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, ErrChanged // the file became shorter
	}
	return n, nil
}

// seek finds the next data at or after off.
func (h *holes) seek() error {
	start, end, ok, err := fdfs.NextDataOf(int(h.fd), h.path, h.off, h.size)
	if err != nil {
		return err
	}
	if !ok {
		start = h.size
		end = h.size
	}
	h.start = min(start, h.size)
	h.end = min(end, h.size)
	return nil
}

// unchanged returns an error if the file has another size by now: the end of a file that became
// shorter looks like a hole.
func (h *holes) unchanged() error {
	st, err := h.fd.Attributes()
	if err != nil {
		return fdfs.PathError("fstat", h.path, err)
	}
	if st.Size != h.size {
		return ErrChanged
	}
	return nil
}
