package memory

import (
	"maps"
	"slices"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// dir is an open directory of a tree. It implements fdfs.Dir.
type dir struct {
	tree *Tree
	node *inode
	up   *dir   // the directory that it was opened from; nil: dir is the root
	name string // its name in up
}

// self is the name by which a directory names itself.
const self = "."

// Close does nothing.
func (d *dir) Close() error { return nil }

// lookUp returns the inode of name or ".". The tree is locked.
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

// OpenDir opens the directory name or ".".
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

// OpenFile opens a file for reading. A file that is not regular is empty.
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

	return &file{tree: d.tree, node: n, content: d.tree.spool.reader(n.content)}, n.stat, nil
}

// Names returns the names of the entries, sorted.
func (d *dir) Names() ([]string, error) {
	d.tree.mu.RLock()
	defer d.tree.mu.RUnlock()
	return slices.Sorted(maps.Keys(d.node.kids)), nil
}

// Stat returns the status of name or ".".
func (d *dir) Stat(name string) (fdfs.Stat, error) {
	d.tree.mu.RLock()
	defer d.tree.mu.RUnlock()

	n, err := d.lookUp("stat", name)
	if err != nil {
		return fdfs.Stat{}, err
	}
	return n.stat, nil
}

// Readlink returns the target of a symbolic link.
func (d *dir) Readlink(name string) (string, error) {
	d.tree.mu.RLock()
	defer d.tree.mu.RUnlock()

	n, err := d.lookUp("readlink", name)
	if err != nil {
		return "", err
	}
	if n.stat.Type != fdfs.Symlink {
		return "", fdfs.PathError("readlink", name, fdfs.EINVAL)
	}

	return n.target, nil
}

// Make makes a directory, a symbolic link, a fifo or a device.
func (d *dir) Make(name string, e fdfs.Entry) error {
	mode := uint32(0o600)
	switch e.Type {
	case fdfs.Directory:
		mode = 0o700
	case fdfs.Symlink:
		mode = 0o777
		e.Mode = nil // a link has none
		if len(e.Target) > maxTarget {
			return fdfs.PathError("symlink", name, fdfs.ENAMETOOLONG)
		}
	case fdfs.Fifo, fdfs.CharDevice, fdfs.BlockDevice:
	case fdfs.Regular, fdfs.Socket, fdfs.Unknown:
		return fdfs.PathError("make", name, fdfs.EINVAL)
	}

	d.tree.mu.Lock()
	defer d.tree.mu.Unlock()
	if err := d.mayAdd("make", name); err != nil {
		return err
	}

	n := d.tree.newInode(e.Type, mode)
	n.stat.Rdev = e.Rdev
	n.target = e.Target
	n.stat.Size = int64(len(e.Target))
	if err := d.tree.setAttributes(n, e.Attributes); err != nil {
		return err
	}
	d.add(name, n)
	return nil
}

// Create makes a regular file and reserves size bytes of the spool for it.
func (d *dir) Create(name string, size int64) (fdfs.NewFile, error) {
	d.tree.mu.Lock()
	defer d.tree.mu.Unlock()
	if err := d.mayAdd("open", name); err != nil {
		return nil, err
	}

	n := d.tree.newInode(fdfs.Regular, 0o600)
	d.add(name, n)
	return &newFile{tree: d.tree, node: n, room: d.tree.spool.reserve(size)}, nil
}

// Link makes name another name of the file old of from.
func (d *dir) Link(name string, from fdfs.Dir, old string) error {
	other, ok := from.(*dir)
	if !ok || other.tree != d.tree {
		return fdfs.PathError("link", name, fdfs.EXDEV)
	}

	d.tree.mu.Lock()
	defer d.tree.mu.Unlock()
	n, err := other.lookUp("link", old)
	if err != nil {
		return err
	}
	if n.stat.Type == fdfs.Directory {
		return fdfs.PathError("link", name, fdfs.EISDIR)
	}
	if err := d.mayAdd("link", name); err != nil {
		return err
	}

	other.copyUp() // overlayfs copies the file up
	other.node.kids[old].up(d.tree.layer)
	n.stat.Nlink++
	d.add(name, n)
	return nil
}

// mayAdd returns the error of making the entry name, nil if it can be made. The tree is locked.
func (d *dir) mayAdd(op, name string) error {
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

	return nil
}

// add gives n the name in the directory. The tree is locked.
func (d *dir) add(name string, n *inode) {
	d.tree.names++
	d.copyUp()

	// A directory in place of a removed one of a lower layer hides what that layer has in it.
	below := d.tree.layer > 0 && d.node.gone[name] == d.tree.layer
	if below {
		delete(d.node.gone, name)
		if n.stat.Type == fdfs.Directory {
			n.opaque = d.tree.layer
		}
	}

	d.node.kids[name] = &entry{inode: n, layer: d.tree.layer, below: below}
	d.node.stat.Mtime = now()
}

// copyUp makes the directory, and the directories that lead to it, part of the current layer, as
// overlayfs does before it changes a directory. The tree is locked.
func (d *dir) copyUp() {
	for ; d.up != nil; d = d.up {
		e := d.up.node.kids[d.name]
		if e == nil || e.inode != d.node || e.layer == d.tree.layer {
			return // removed meanwhile, or in the layer already
		}
		e.up(d.tree.layer)
	}
}

// SetAttributes changes the attributes of name or ".", and makes it part of the current layer.
func (d *dir) SetAttributes(name string, a fdfs.Attributes) error {
	d.tree.mu.Lock()
	defer d.tree.mu.Unlock()

	n, err := d.lookUp("setattr", name)
	if err != nil {
		return err
	}
	d.copyUp()
	if name != self {
		d.node.kids[name].up(d.tree.layer)
	}

	return d.tree.setAttributes(n, a)
}

// Unlink removes name, which is not a directory.
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
	if d.node.needsWhiteout(name, d.tree.layer) {
		if d.node.gone == nil {
			d.node.gone = map[string]uint64{}
		}
		d.node.gone[name] = d.tree.layer
	}

	d.node.drop(name)
	d.node.stat.Mtime = now()
	return nil
}

// setAttributes changes the attributes of n. The tree is locked.
func (t *Tree) setAttributes(n *inode, a fdfs.Attributes) error {
	if a.Owner != nil {
		n.stat.UID = a.Owner.UID
		n.stat.GID = a.Owner.GID
	}
	if a.Mode != nil {
		n.stat.Mode = *a.Mode & 0o7777
	}
	for key, value := range a.Xattrs {
		t.xattrs += len(key) + len(value)
		if t.xattrs > maxXattrs {
			return errXattrs
		}
		if n.xattrs == nil {
			n.xattrs = map[string]string{}
		}
		n.xattrs[key] = value
	}
	if a.Mtime != nil {
		n.stat.Mtime = *a.Mtime
	}

	return nil
}
