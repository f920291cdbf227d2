package memory

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// Spool holds the contents of files, one behind the other, in a file without a name: it goes with the process. Trees may
// share one.
type Spool struct {
	file *os.File
	next atomic.Int64
}

// NewSpool makes an empty spool on the file system of the directory dir.
func NewSpool(dir string) (*Spool, error) {
	f, err := os.CreateTemp(dir, "spool-")
	if err != nil {
		return nil, fmt.Errorf("making a file for the contents of files: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Spool{file: f}, nil
}

// Close gives the room back.
func (s *Spool) Close() error { return s.file.Close() }

// extent is a place in the spool. What was not written there is zeros: no place is given away twice.
type extent struct{ at, size int64 }

func (s *Spool) reserve(size int64) extent {
	return extent{s.next.Add(size) - size, size}
}

func (s *Spool) reader(e extent) *io.SectionReader { return io.NewSectionReader(s, e.at, e.size) }

// ReadAt reads the spool's file, and zeros behind its end: the last place may end in zeros that were not written.
func (s *Spool) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.file.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		clear(p[n:])
		return len(p), nil
	}
	return n, err
}

// openFile is an open regular file: for reading, or as it was made.
type openFile struct {
	tree *Tree
	node *inode
	in   *io.SectionReader // nil: it is being written

	room extent // reserved for it
	at   int64  // where Write goes on
}

var errReadOnly = errors.New("the file is open for reading")

// Read reads on.
func (f *openFile) Read(p []byte) (int, error) {
	if f.in == nil {
		return 0, io.EOF
	}
	return f.in.Read(p)
}

// Write writes behind what was written before.
func (f *openFile) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.at)
	f.at += int64(n)
	if err == nil {
		err = f.resize(f.at)
	}
	return n, err
}

// WriteAt writes anywhere in the size that the file was announced with. Truncate tells its size at the end.
func (f *openFile) WriteAt(p []byte, off int64) (int, error) {
	if f.in != nil {
		return 0, errReadOnly
	}
	if off < 0 || off+int64(len(p)) > f.room.size {
		return 0, fdfs.PathError("write", "file", fdfs.EFBIG)
	}
	return f.tree.spool.file.WriteAt(p, f.room.at+off)
}

// Truncate sets the size.
func (f *openFile) Truncate(size int64) error {
	if f.in != nil {
		return errReadOnly
	}
	return f.resize(size)
}

func (f *openFile) resize(size int64) error {
	if size > f.room.size {
		return fdfs.PathError("truncate", "file", fdfs.EFBIG)
	}
	f.change(func(n *inode) { n.content, n.stat.Size = extent{f.room.at, size}, size })
	return nil
}

// change does something to the file, which its maker has put into the layer already.
func (f *openFile) change(do func(n *inode)) {
	f.tree.mu.Lock()
	defer f.tree.mu.Unlock()
	do(f.node)
}

// Attributes tell what the file is.
func (f *openFile) Attributes() (fdfs.Stat, error) {
	f.tree.mu.RLock()
	defer f.tree.mu.RUnlock()
	return f.node.stat, nil
}

// SetOwner changes the owner.
func (f *openFile) SetOwner(uid, gid uint32) error {
	f.change(func(n *inode) { n.stat.UID, n.stat.GID = uid, gid })
	return nil
}

// SetMode changes the mode.
func (f *openFile) SetMode(mode uint32) error {
	f.change(func(n *inode) { n.stat.Mode = mode & 0o7777 })
	return nil
}

// Getxattr gives an extended attribute; nil: there is none.
func (f *openFile) Getxattr(key string) ([]byte, error) {
	f.tree.mu.RLock()
	defer f.tree.mu.RUnlock()
	value, ok := f.node.xattrs[key]
	if !ok {
		return nil, nil
	}
	return []byte(value), nil
}

// Setxattr sets an extended attribute.
func (f *openFile) Setxattr(key string, value []byte) error {
	var err error
	f.change(func(n *inode) { err = f.tree.setXattr(n, key, value) })
	return err
}

// Close ends the writing.
func (f *openFile) Close() error { return nil }
