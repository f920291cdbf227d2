package copier

import (
	"errors"
	"fmt"
	"io"
	"os"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// writeJob writes one regular file, from one of src, data and file.
type writeJob struct {
	sel  *Selection
	node *node
	src  place
	data []byte
	file *os.File
	to   place
}

func (j *writeJob) release() {
	j.src.dir.release()
	j.to.dir.release()
}

func (j *writeJob) run(w *worker) error {
	var out fdfs.File
	err := replacing(j.to, func() (err error) {
		out, err = j.to.dir.Create(j.to.name, j.node.stat.Size)
		return err
	})
	if err != nil {
		return fmt.Errorf("writing %s: %w", j.to.path, err)
	}
	if err := errors.Join(j.content(w, out), out.Close()); err != nil {
		return err
	}
	if err := j.to.dir.SetMtime(j.to.name, j.node.stat.Mtime); err != nil {
		return fmt.Errorf("writing %s: %w", j.to.path, err)
	}
	return nil
}

// content fills out and gives it its metadata.
func (j *writeJob) content(w *worker, out fdfs.File) error {
	if err := j.copy(w, out); err != nil {
		return err
	}

	o := j.sel.owner(j.node)
	err := out.SetOwner(o.UID, o.GID)
	if err == nil { // after chown(2), which takes setuid, setgid and capabilities away
		err = out.SetMode(j.sel.mode(j.node))
	}
	if err == nil && j.node.caps != nil {
		err = out.Setxattr(xattrCaps, j.node.caps)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", j.to.path, err)
	}
	return nil
}

func (j *writeJob) copy(w *worker, out fdfs.File) error {
	switch {
	case j.data != nil:
		_, err := out.Write(j.data)
		return err
	case j.file != nil:
		return j.verified(w, out, io.NewSectionReader(j.file, 0, j.node.stat.Size))
	}

	in, before, err := j.src.dir.OpenFile(j.src.name)
	if err != nil {
		return fmt.Errorf("source %s: %w", j.src.path, err)
	}
	defer in.Close()
	if before.Type != fdfs.Regular {
		return fmt.Errorf("source %s: %w", j.src.path, errChanged)
	}

	seen, from, to := j.node.stat, fdfs.DiskFile(in), fdfs.DiskFile(out)
	if seen.Size <= bufferSize || j.node.racy || !sameContent(seen, before) || from == nil || to == nil {
		return j.verified(w, out, in)
	}
	if err := copyLarge(w, to, from, seen.Size); err != nil {
		return fmt.Errorf("writing %s: %w", j.to.path, err)
	}

	after, err := in.Attributes()
	if err == nil && !sameContent(seen, after) {
		err = errChanged
	}
	if err != nil {
		return fmt.Errorf("source %s: %w", j.src.path, err)
	}

	return nil
}

// verified copies in to out and fails if that is not what Select has digested.
func (j *writeJob) verified(w *worker, out fdfs.File, in io.Reader) error {
	w.hash.Reset()
	sparse := &sparseWriter{f: out}
	to, size := io.MultiWriter(sparse, w.hash), j.node.stat.Size
	var err error
	if file, ok := in.(fdfs.File); ok {
		_, err = w.readFile(file, size, to, nil)
	} else {
		_, err = w.read(in, size, to)
	}

	if err == nil {
		err = sparse.finish()
	}
	if err != nil {
		return fmt.Errorf("copying %s to %s: %w", j.src.path, j.to.path, err)
	}

	var sum [32]byte
	if w.hash.Sum(sum[:0]); sum != j.node.sum {
		return fmt.Errorf("source %s: %w", j.src.path, errChanged)
	}

	return nil
}

// copyLarge copies size bytes, in the kernel where it can, and keeps holes.
func copyLarge(w *worker, out, in *os.File, size int64) error {
	inKernel := true
	for off := int64(0); ; {
		start, end, ok, err := fdfs.NextData(in, off, size)
		if err != nil {
			return err
		}
		if !ok {
			return out.Truncate(size)
		}
		if end = min(end, size); end <= start {
			return out.Truncate(size)
		}
		if inKernel, err = copyStretch(w, out, in, start, end, inKernel); err != nil {
			return err
		}
		off = end
	}
}

// copyStretch copies the bytes from start to end. It returns whether the kernel could do it.
func copyStretch(w *worker, out, in *os.File, start, end int64, inKernel bool) (bool, error) {
	const most = 64 << 20 // so that an interrupted build does not wait for a terabyte
	for inKernel && start < end {
		if err := w.ctx.Err(); err != nil {
			return inKernel, err
		}

		n, ok, err := fdfs.CopyRange(out, in, start, int(min(end-start, most)))
		if err != nil {
			return inKernel, err
		}
		if ok && n == 0 {
			return inKernel, errChanged
		}

		inKernel = ok
		start += int64(n)
	}

	if start == end {
		return inKernel, nil
	}

	n, err := w.read(io.NewSectionReader(in, start, end-start), end-start, io.NewOffsetWriter(out, start))
	if err == nil && n != end-start {
		err = errChanged
	}

	return inKernel, err
}
