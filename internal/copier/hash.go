package copier

import (
	"errors"
	"fmt"
	"io"
	"time"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

const (
	// bufferSize is what is read and written at once, and the size up to which a file is digested again while it is copied.
	bufferSize = 1 << 20
	// racyWindow is how long after a change a file may change again and keep its times: the kernel's clock for
	// inodes ticks every 1 to 10 ms (multigrain times since 6.13), that of network file systems is another machine's.
	racyWindow = 100 * time.Millisecond
	// xattrCaps holds the capabilities of an executable (capabilities(7)).
	xattrCaps = "security.capability"
)

// hashJob asks for the content of one file.
type hashJob struct {
	dir  *sharedDir
	node *node
	path string // for messages

	sparse func(source string, size, data int64) // Spec.Sparse
}

func (j *hashJob) release() { j.dir.release() }

// run completes the node of a regular file. A file that changes meanwhile is tried again.
func (j *hashJob) run(w *worker) error {
	for range 3 {
		ok, err := j.once(w)
		if err != nil {
			return fmt.Errorf("source %s: %w", j.path, err)
		}
		if ok {
			return nil
		}
	}
	return fmt.Errorf("source %s: %w", j.path, errChanged)
}

func (j *hashJob) once(w *worker) (ok bool, err error) {
	f, before, err := j.dir.OpenFile(j.node.name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if before.Type != fdfs.Regular {
		return false, errChanged
	}

	now := time.Now()
	w.hash.Reset()
	size, err := w.readFile(f, before.Size, w.hash, func(data int64) {
		if j.sparse != nil {
			j.sparse(j.path, before.Size, data)
		}
	})
	if err != nil {
		return false, err
	}
	if j.node.caps, err = f.Getxattr(xattrCaps); err != nil {
		return false, err
	}

	after, err := f.Attributes()
	if err != nil || !sameContent(before, after) || size != after.Size {
		return false, err
	}

	w.hash.Sum(j.node.sum[:0])
	j.node.stat = after
	j.node.racy = now.Sub(time.Unix(after.Ctime.Sec, after.Ctime.Nsec)) < racyWindow

	return true, nil
}

// sameContent reports whether a file that was a then cannot have changed if it is b now.
func sameContent(a, b fdfs.Stat) bool {
	return a.SameInode(b) && a.Type == b.Type && a.Size == b.Size && a.Mtime == b.Mtime && a.Ctime == b.Ctime
}

// read reads f to its end into to and returns how much. A short read that brings it to the size expected is the end.
func (w *worker) read(f io.Reader, expected int64, to io.Writer) (size int64, err error) {
	for {
		n, err := f.Read(w.buf)
		if n > 0 {
			if _, err := to.Write(w.buf[:n]); err != nil {
				return size, err
			}
			size += int64(n)
		}

		if errors.Is(err, io.EOF) || err == nil && size == expected && n < len(w.buf) {
			return size, nil
		}

		if err == nil {
			err = w.ctx.Err()
		}
		if err != nil {
			return size, err
		}
	}
}
