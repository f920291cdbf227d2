package memory

import (
	"cmp"
	"maps"
	"slices"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// dir is an open directory of a tree.
type dir struct {
	tree *Tree
	node *inode
	up   *dir // nil: the root
	name string
}

// self is how a directory calls itself.
const self = "."

// Close does nothing.
func (d *dir) Close() error { return nil }

// lookUp finds name, or the directory itself. The tree must be locked.
func (d *dir) lookUp(op, name string) (*inode, error) {
	if name == self {
		return d.node, nil
	}
	if err := fdfs.CheckName(op, name); err != nil {
		return nil, err
	}
	e := d.node.kids[name]
	if e == nil {
		return nil, fdfs.PathError(op, name, fdfs.ENOENT)
	}
	return e.inode, nil
}

// OpenDir opens a directory.
func (d *dir) OpenDir(name string) (fdfs.Dir, error) {
	d.tree.mu.RLock()
	defer d.tree.mu.RUnlock()

	n, err := d.lookUp("open", name)
	switch {
	case err != nil:
		return nil, err
	case n.stat.Type != fdfs.Directory:
		return nil, fdfs.PathError("open", name, fdfs.ENOTDIR)
	case name == self:
		return d, nil
	}

	return &dir{tree: d.tree, node: n, up: d, name: name}, nil
}

// OpenPlace is OpenDir.
func (d *dir) OpenPlace(name string) (fdfs.Dir, error) { return d.OpenDir(name) }

// OpenFile opens a file for reading. What is no regular file is empty.
func (d *dir) OpenFile(name string) (fdfs.File, fdfs.Stat, error) {
	d.tree.mu.RLock()
	defer d.tree.mu.RUnlock()
	n, err := d.lookUp("open", name)
	if err != nil {
		return nil, fdfs.Stat{}, err
	}
	if n.stat.Type == fdfs.Symlink {
		return nil, fdfs.Stat{}, fdfs.PathError("open", name, fdfs.ELOOP)
	}
	return &openFile{tree: d.tree, node: n, in: d.tree.spool.reader(n.content)}, n.stat, nil
}

// Names lists the directory, sorted.
func (d *dir) Names() ([]string, error) {
	d.tree.mu.RLock()
	defer d.tree.mu.RUnlock()
	return slices.Sorted(maps.Keys(d.node.kids)), nil
}

// Stat tells what name is.
func (d *dir) Stat(name string) (fdfs.Stat, error) {
	d.tree.mu.RLock()
	defer d.tree.mu.RUnlock()
	n, err := d.lookUp("stat", name)
	if err != nil {
		return fdfs.Stat{}, err
	}
	return n.stat, nil
}

// Readlink gives the text of a symbolic link.
func (d *dir) Readlink(name string) (string, error) {
	d.tree.mu.RLock()
	defer d.tree.mu.RUnlock()
	n, err := d.lookUp("readlink", name)
	if err == nil && n.stat.Type != fdfs.Symlink {
		err = fdfs.PathError("readlink", name, fdfs.EINVAL)
	}
	if err != nil {
		return "", err
	}
	return n.target, nil
}

// copyUp makes the directory and those that lead to it part of the layer. The tree must be locked.
func (d *dir) copyUp() {
	for ; d.up != nil; d = d.up {
		e := d.up.node.kids[d.name]
		if e == nil || e.inode != d.node || e.layer == d.tree.layer {
			return // removed meanwhile, or there already
		}
		e.up(d.tree.layer)
	}
}

// add puts a new file into the directory.
func (d *dir) add(op, name string, make func() *inode) error {
	d.tree.mu.Lock()
	defer d.tree.mu.Unlock()
	if err := fdfs.CheckName(op, name); err != nil {
		return err
	}

	switch {
	case name == self || d.node.kids[name] != nil:
		return fdfs.PathError(op, name, fdfs.EEXIST)
	case len(name) > maxName:
		return fdfs.PathError(op, name, fdfs.ENAMETOOLONG)
	case d.tree.names >= maxFiles:
		return errTooMany
	}

	d.tree.names++
	d.copyUp()
	n := make()
	below := d.tree.layer > 0 && d.node.gone[name] == d.tree.layer
	if below {
		delete(d.node.gone, name)
		if n.stat.Type == fdfs.Directory {
			n.opaque = d.tree.layer
		}
	}

	d.node.kids[name] = &entry{inode: n, layer: d.tree.layer, below: below}
	d.node.stat.Mtime = now()

	return nil
}

// Mkdir makes a directory.
func (d *dir) Mkdir(name string, mode uint32) error {
	return d.add("mkdir", name, func() *inode { return d.tree.newInode(fdfs.Directory, mode) })
}

// Symlink makes a symbolic link.
func (d *dir) Symlink(target, name string) error {
	if len(target) > maxTarget {
		return fdfs.PathError("symlink", name, fdfs.ENAMETOOLONG)
	}
	return d.add("symlink", name, func() *inode {
		n := d.tree.newInode(fdfs.Symlink, 0o777)
		n.target, n.stat.Size = target, int64(len(target))
		return n
	})
}

// Mknod makes a fifo or a device.
func (d *dir) Mknod(name string, t fdfs.Type, mode uint32, rdev uint64) error {
	return d.add("mknod", name, func() *inode {
		n := d.tree.newInode(t, mode)
		n.stat.Rdev = rdev
		return n
	})
}

// Create makes a file.
func (d *dir) Create(name string, size int64) (fdfs.File, error) {
	var n *inode
	err := d.add("open", name, func() *inode {
		n = d.tree.newInode(fdfs.Regular, 0o600)
		return n
	})
	if err != nil {
		return nil, err
	}
	return &openFile{tree: d.tree, node: n, room: d.tree.spool.reserve(size)}, nil
}

// Link makes another name of a file.
func (d *dir) Link(from fdfs.Dir, old, name string) error {
	other, ok := from.(*dir)
	if !ok || other.tree != d.tree {
		return fdfs.PathError("link", name, fdfs.EXDEV)
	}

	d.tree.mu.RLock()
	n, err := other.lookUp("link", old)
	d.tree.mu.RUnlock()
	if err == nil && n.stat.Type == fdfs.Directory {
		err = fdfs.PathError("link", name, fdfs.EISDIR)
	}
	if err != nil {
		return err
	}

	return d.add("link", name, func() *inode {
		other.copyUp() // as overlayfs does with the file
		if e := other.node.kids[old]; e != nil {
			e.up(d.tree.layer)
		}
		n.stat.Nlink++
		return n
	})
}

// Unlink removes what is no directory.
func (d *dir) Unlink(name string) error { return d.remove("unlink", name, false) }

// Rmdir removes an empty directory.
func (d *dir) Rmdir(name string) error { return d.remove("rmdir", name, true) }

func (d *dir) remove(op, name string, directory bool) error {
	d.tree.mu.Lock()
	defer d.tree.mu.Unlock()

	n, err := d.lookUp(op, name)
	switch {
	case err != nil:
		return err
	case name == self:
		return fdfs.PathError(op, name, fdfs.EINVAL)
	case directory && n.stat.Type != fdfs.Directory:
		return fdfs.PathError(op, name, fdfs.ENOTDIR)
	case !directory && n.stat.Type == fdfs.Directory:
		return fdfs.PathError(op, name, fdfs.EISDIR)
	case len(n.kids) > 0:
		return fdfs.PathError(op, name, fdfs.ENOTEMPTY)
	}

	d.copyUp()
	if d.node.hides(name, d.tree.layer) {
		if d.node.gone == nil {
			d.node.gone = map[string]uint64{}
		}
		d.node.gone[name] = d.tree.layer
	}

	d.node.drop(name)
	d.node.stat.Mtime = now()

	return nil
}

// change does something to name, or to the directory itself, which copies it up.
func (d *dir) change(op, name string, do func(n *inode)) error {
	d.tree.mu.Lock()
	defer d.tree.mu.Unlock()

	n, err := d.lookUp(op, name)
	if err != nil {
		return err
	}

	d.copyUp()
	if name != self {
		d.node.kids[name].up(d.tree.layer)
	}
	do(n)
	return nil
}

// Chown changes an owner.
func (d *dir) Chown(name string, uid, gid uint32) error {
	return d.change("chown", name, func(n *inode) { n.stat.UID, n.stat.GID = uid, gid })
}

// Chmod changes a mode.
func (d *dir) Chmod(name string, mode uint32) error {
	return d.change("chmod", name, func(n *inode) { n.stat.Mode = mode & 0o7777 })
}

// SetMtime changes a time.
func (d *dir) SetMtime(name string, t fdfs.Time) error {
	return d.change("utimensat", name, func(n *inode) { n.stat.Mtime = t })
}

// Setxattr sets an extended attribute of the directory.
func (d *dir) Setxattr(key string, value []byte) error {
	var full error
	err := d.change("setxattr", self, func(n *inode) { full = d.tree.setXattr(n, key, value) })
	return cmp.Or(err, full)
}

// setXattr sets an attribute of a file. The tree must be locked.
func (t *Tree) setXattr(n *inode, key string, value []byte) error {
	if t.xattrs += len(key) + len(value); t.xattrs > maxXattrs {
		return errXattrs
	}
	if n.xattrs == nil {
		n.xattrs = map[string]string{}
	}
	n.xattrs[key] = string(value)
	return nil
}
