package memory

import (
	"io"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// file is a file that is open for reading.
type file struct {
	tree    *Tree
	node    *inode
	content *io.SectionReader
}

// Close does nothing.
func (f *file) Close() error { return nil }

// Read reads the content as it was when the file was opened.
func (f *file) Read(p []byte) (int, error) { return f.content.Read(p) }

// Stat returns the status of the file as it is now.
func (f *file) Stat() (fdfs.Stat, error) {
	f.tree.mu.RLock()
	defer f.tree.mu.RUnlock()
	return f.node.stat, nil
}

// Getxattr returns an extended attribute, or nil if the file has no such attribute.
func (f *file) Getxattr(key string) ([]byte, error) {
	f.tree.mu.RLock()
	defer f.tree.mu.RUnlock()
	value, ok := f.node.xattrs[key]
	if !ok {
		return nil, nil
	}
	return []byte(value), nil
}

// newFile is a regular file that is being written. Create has made it part of the current layer.
type newFile struct {
	tree *Tree
	node *inode
	room extent // the part of the spool that is reserved for it
	off  int64  // the offset of the next Write
}

// Close does nothing.
func (f *newFile) Close() error { return nil }

// Write writes at the end of the previous Write.
func (f *newFile) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.off)
	f.off += int64(n)
	if err != nil {
		return n, err
	}
	return n, f.Truncate(f.off)
}

// WriteAt writes within the size that Create reserved. The caller sets the size of the file by
// Truncate afterwards.
func (f *newFile) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > f.room.size {
		return 0, fdfs.PathError("write", "file", fdfs.EFBIG)
	}
	return f.tree.spool.file.WriteAt(p, f.room.at+off)
}

// Truncate sets the size, which is at most the size that Create reserved.
func (f *newFile) Truncate(size int64) error {
	if size > f.room.size {
		return fdfs.PathError("truncate", "file", fdfs.EFBIG)
	}

	f.tree.mu.Lock()
	defer f.tree.mu.Unlock()
	f.node.content = extent{f.room.at, size}
	f.node.stat.Size = size
	return nil
}

// SetAttributes changes the attributes of the file.
func (f *newFile) SetAttributes(a fdfs.Attributes) error {
	f.tree.mu.Lock()
	defer f.tree.mu.Unlock()
	return f.tree.setAttributes(f.node, a)
}
