package copier

import (
	"errors"
	"fmt"
	"io"
	"os"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// writeJob writes one regular file from one of src, data and file.
type writeJob struct {
	rules rules
	node  *node
	src   place
	data  []byte
	file  *os.File
	to    place
}

func (j *writeJob) release() {
	j.src.dir.release()
	j.to.dir.release()
}

func (j *writeJob) run(w *worker) error {
	var out fdfs.NewFile
	err := replacing(j.to, func() (err error) {
		out, err = j.to.dir.Create(j.to.name, j.node.stat.Size)
		return err
	})
	if err != nil {
		return fmt.Errorf("writing %s: %w", j.to.path, err)
	}
	return errors.Join(j.fill(w, out), out.Close())
}

// fill writes the content and the attributes of out.
func (j *writeJob) fill(w *worker, out fdfs.NewFile) error {
	if err := j.content(w, out); err != nil {
		return err
	}
	a := j.rules.attributesWithTime(j.node)
	if j.node.caps != nil {
		a.Xattrs = map[string]string{xattrCaps: string(j.node.caps)}
	}
	if err := out.SetAttributes(a); err != nil {
		return fmt.Errorf("writing %s: %w", j.to.path, err)
	}

	return nil
}

func (j *writeJob) content(w *worker, out fdfs.NewFile) error {
	switch {
	case j.data != nil:
		_, err := out.Write(j.data)
		return err
	case j.file != nil:
		content := io.NewSectionReader(j.file, 0, j.node.stat.Size)
		return j.verified(w, out, func(to io.Writer) error {
			_, err := w.read(content, j.node.stat.Size, to)
			return err
		})
	}

	in, before, err := j.src.dir.OpenFile(j.src.name)
	if err != nil {
		return fmt.Errorf("source %s: %w", j.src.path, err)
	}
	defer in.Close() // only read
	if before.Type != fdfs.Regular {
		return fmt.Errorf("source %s: %w", j.src.path, errChanged)
	}

	from := fdfs.DescriptorOf(in)
	to := fdfs.DescriptorOf(out)
	seen := j.node.stat
	if seen.Size <= bufferSize || j.node.racy || !sameContent(seen, before) || from == nil || to == nil {
		return j.verified(w, out, func(to io.Writer) error {
			_, err := w.readFile(in, seen.Size, to, nil)
			return err
		})
	}

	// The file is large and did not change since Select: to copy it in the kernel is faster than to
	// digest it again.
	if err := copyLarge(w, to, from, seen.Size); err != nil {
		return fmt.Errorf("writing %s: %w", j.to.path, err)
	}
	after, err := in.Stat()
	if err != nil {
		return fmt.Errorf("source %s: %w", j.src.path, err)
	}
	if !sameContent(seen, after) {
		return fmt.Errorf("source %s: %w", j.src.path, errChanged)
	}

	return nil
}

// verified calls read to copy the source to out, and fails if the content is not the one that
// Select digested.
func (j *writeJob) verified(w *worker, out fdfs.NewFile, read func(to io.Writer) error) error {
	w.hash.Reset()
	sparse := fdfs.NewSparseWriter(out)
	if err := read(io.MultiWriter(sparse, w.hash)); err != nil {
		return fmt.Errorf("copying %s to %s: %w", j.src.path, j.to.path, err)
	}
	if err := sparse.Finish(); err != nil {
		return fmt.Errorf("copying %s to %s: %w", j.src.path, j.to.path, err)
	}
	if w.sum() != j.node.sum {
		return fmt.Errorf("source %s: %w", j.src.path, errChanged)
	}

	return nil
}

// copyLarge copies size bytes, in the kernel if it can, and keeps holes.
func copyLarge(w *worker, out, in *os.File, size int64) error {
	inKernel := true
	for off := int64(0); ; {
		start, end, ok, err := fdfs.NextData(in, off, size)
		if err != nil {
			return err
		}
		end = min(end, size)
		if !ok || end <= start {
			return out.Truncate(size)
		}

		inKernel, err = copyStretch(w, out, in, start, end, inKernel)
		if err != nil {
			return err
		}
		off = end
	}
}

// copyStretch copies the bytes from start to end, and reports whether the kernel can copy between
// the two files.
func copyStretch(w *worker, out, in *os.File, start, end int64, inKernel bool) (bool, error) {
	const most = 64 << 20 // bytes at once, so that an interrupted build does not wait for a terabyte
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
	if err != nil {
		return inKernel, err
	}
	if n != end-start {
		return inKernel, errChanged
	}

	return inKernel, nil
}
