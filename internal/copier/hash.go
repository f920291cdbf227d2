package copier

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/sparse"
)

const (
	// bufferSize is the number of bytes that are read and written at once. Files up to this size
	// are digested again while they are copied.
	bufferSize = 1 << 20
	// racyWindow is the time after a change in which a file may change again and keep its times.
	// The clock of the kernel for inodes ticks every 1 to 10 ms (multigrain times since Linux
	// 6.13); the clock of a network file system is that of another machine.
	racyWindow = 100 * time.Millisecond
	// xattrCaps holds the capabilities of an executable (capabilities(7)).
	xattrCaps = "security.capability"
)

// zeroBlock is never written to.
var zeroBlock [64 << 10]byte

// hashJob digests the content of one file.
type hashJob struct {
	dir  *sharedDir
	node *node
	path string // for messages

	sparse func(source string, size, data int64) // Spec.Sparse
}

func (j *hashJob) release() { j.dir.release() }

// run completes the node of a regular file. A file that changes meanwhile is digested again, up to
// three times in all.
func (j *hashJob) run(w *worker) error {
	for range 3 {
		stable, err := j.digest(w)
		if err != nil {
			return fmt.Errorf("source %s: %w", j.path, err)
		}
		if stable {
			return nil
		}
	}
	return fmt.Errorf("source %s: %w", j.path, errChanged)
}

// digest digests the file. stable is false if the file changed meanwhile.
func (j *hashJob) digest(w *worker) (stable bool, err error) {
	f, before, err := j.dir.OpenFile(j.node.name)
	if err != nil {
		return false, err
	}
	defer f.Close() // only read
	if before.Type != fdfs.Regular {
		return false, errChanged
	}

	start := time.Now()
	w.hash.Reset()
	size, err := w.readFile(f, before.Size, w.hash, func(data int64) {
		if j.sparse != nil {
			j.sparse(j.path, before.Size, data)
		}
	})
	if err != nil {
		return false, err
	}
	caps, err := f.Getxattr(xattrCaps)
	if err != nil {
		return false, err
	}
	after, err := f.Stat()
	if err != nil {
		return false, err
	}
	if !sameContent(before, after) || size != after.Size {
		return false, nil
	}

	w.hash.Sum(j.node.sum[:0])
	j.node.caps = caps
	j.node.stat = after
	j.node.racy = start.Sub(time.Unix(after.Ctime.Sec, after.Ctime.Nsec)) < racyWindow
	return true, nil
}

// sameContent reports whether two states of a file, a and later b, have the same content, as far as
// inode, size and times say.
func sameContent(a, b fdfs.Stat) bool {
	return a.SameInode(b) && a.Type == b.Type && a.Size == b.Size && a.Mtime == b.Mtime && a.Ctime == b.Ctime
}

// read copies f to its end to the writer to, and returns the number of bytes. A short read that
// completes the expected size is the end: that saves the read that returns io.EOF.
func (w *worker) read(f io.Reader, expected int64, to io.Writer) (size int64, err error) {
	for {
		n, err := f.Read(w.buf)
		if n > 0 {
			if _, err := to.Write(w.buf[:n]); err != nil {
				return size, err
			}
			size += int64(n)
		}
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		if err != nil {
			return size, err
		}
		if size == expected && n < len(w.buf) {
			return size, nil
		}
		if err := w.ctx.Err(); err != nil {
			return size, err
		}
	}
}

// readFile copies a file of the expected size to the writer to, and returns the number of bytes.
// Holes are not read. If the file has large holes, readFile calls large before, with the number of
// bytes that are no holes; large may be nil.
func (w *worker) readFile(f fdfs.File, expected int64, to io.Writer, large func(data int64)) (size int64, err error) {
	disk := fdfs.DescriptorOf(f)
	if disk == nil || expected <= bufferSize {
		return w.read(f, expected, to)
	}

	data, err := fdfs.DataOf(int(disk.Fd()), disk.Name(), expected)
	if err != nil {
		return 0, err
	}
	if data == expected {
		if _, err := disk.Seek(0, io.SeekStart); err != nil { // the search for holes moved the offset
			return 0, err
		}
		return w.read(f, expected, to)
	}
	if large != nil && expected-data >= sparse.Large {
		large(data)
	}

	return w.readSparse(disk, expected, to)
}

// readSparse is readFile for a file that has holes.
func (w *worker) readSparse(f *os.File, expected int64, to io.Writer) (size int64, err error) {
	for off := int64(0); off < expected; {
		start, end, ok, err := fdfs.NextData(f, off, expected)
		if err != nil {
			return off, err
		}
		if !ok {
			start = expected
			end = expected
		}
		start = min(start, expected)
		end = min(end, expected)

		if err := w.writeZeros(to, start-off); err != nil {
			return off, err
		}
		n, err := w.read(io.NewSectionReader(f, start, end-start), end-start, to)
		off = start + n
		if err != nil || n < end-start { // shorter: the file was truncated meanwhile
			return off, err
		}
	}

	return expected, nil
}

// writeZeros writes n zeros.
func (w *worker) writeZeros(to io.Writer, n int64) error {
	for n > 0 {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		wrote, err := to.Write(zeroBlock[:min(n, int64(len(zeroBlock)))])
		if err != nil {
			return err
		}
		n -= int64(wrote)
	}

	return nil
}

// teeReader digests the bytes that are read through it.
type teeReader struct {
	r io.Reader
	w *worker
}

func (t *teeReader) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.w.hash.Write(p[:n])
	return n, err
}

// finish reads the rest, because a tar may end before the file does.
func (t *teeReader) finish() error {
	_, err := io.CopyBuffer(io.Discard, t, t.w.buf)
	return err
}
