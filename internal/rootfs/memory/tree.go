// Package memory keeps the files of an image without a file system: names, owners, modes and links
// in memory, contents in one temporary file. It serves builds on hosts where nothing can be mounted
// and no owner can be changed.
//
//	spool, err := memory.NewSpool(dir)                   // dir: a directory for temporary files
//	layer := memory.New(spool)
//	devices, err := archive.ExtractLayer(ctx, tar, layer.Root()) // as the tar has it, whiteouts included
//	err = whole.Apply(layer)                             // now whole shows the files that an overlay would show
//	whole.Begin()                                        // changes from here on are a new layer
//	err = selection.Write(ctx, whole.Root())
//	result, err := whole.WriteLayer(ctx, w, options)
//
// A Tree keeps books as overlayfs does, so that WriteLayer writes the entries that an upper
// directory would have: a changed directory is copied up together with the directories that lead to
// it, a name that was removed from a lower layer is a whiteout, and a directory that was made in
// place of a removed entry is opaque. The time of a directory changes with its entries.
//
// Bounds, besides those of the kernel on names and links: 2 Mi names that were made or applied, and
// 64 MiB of extended attributes.
//
// Nothing of an image becomes a file of the host: links, devices and names are values here, and
// paths resolve below the root (fdfs.Cursor). Several goroutines may use a Tree. The space of
// contents is released by Spool.Close only.
package memory

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

const (
	maxFiles  = 2 << 20  // names
	maxXattrs = 64 << 20 // bytes

	maxName   = 255  // bytes, NAME_MAX of include/uapi/linux/limits.h
	maxTarget = 4095 // bytes, PATH_MAX without the final NUL
)

var (
	errTooMany = fmt.Errorf("more than %d files cannot be kept in memory", maxFiles)
	errXattrs  = fmt.Errorf("more than %d bytes of extended attributes cannot be kept in memory", maxXattrs)
)

// Tree is a file system in memory. Its changes since Begin are a layer.
type Tree struct {
	spool *Spool

	mu     sync.RWMutex
	root   *inode
	layer  uint64         // number of the current layer; 0: Begin was not called
	inodes uint64         // numbers of inodes that were used
	names  int            // names that were made or applied
	xattrs int            // bytes of extended attributes
	below  commit.RootDir // attributes of the root directory below the current layer
}

// inode is a file, a directory or a link.
type inode struct {
	stat    fdfs.Stat
	target  string // of a symbolic link
	content extent // of a regular file
	xattrs  map[string]string

	// Of a directory:
	kids   map[string]*entry
	gone   map[string]uint64 // removed names of lower layers, with the number of the layer that removed them
	opaque uint64            // number of the layer that hides the entries of lower layers
}

// entry is a name in a directory.
type entry struct {
	*inode
	layer uint64 // the layer that made or copied up the name; 0: before the first Begin
	below bool   // a lower layer has the name as well; true for every name that the current layer does not have
}

// up makes the name part of the layer.
func (e *entry) up(layer uint64) {
	if e.layer != layer {
		e.layer = layer
		e.below = true
	}
}

// needsWhiteout reports whether the removal of name must be recorded in the layer, because a lower
// layer has the name.
func (n *inode) needsWhiteout(name string, layer uint64) bool {
	e := n.kids[name]
	return layer > 0 && (e.layer != layer || e.below)
}

// New returns an empty tree. Its root directory belongs to root and has mode 0755.
func New(spool *Spool) *Tree {
	t := &Tree{spool: spool}
	t.root = t.newInode(fdfs.Directory, 0o755)
	t.below = t.rootAttributes()
	return t
}

func (t *Tree) newInode(kind fdfs.Type, mode uint32) *inode {
	t.inodes++
	n := &inode{stat: fdfs.Stat{Type: kind, Mode: mode, Ino: t.inodes, Nlink: 1, Mtime: now()}}
	if kind == fdfs.Directory {
		n.kids = map[string]*entry{}
	}
	return n
}

func now() fdfs.Time {
	t := time.Now()
	return fdfs.Time{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

// Root opens the root directory. The caller need not close it.
func (t *Tree) Root() fdfs.Dir { return &dir{tree: t, node: t.root} }

// Clone returns a copy of the tree without layers of its own. Contents are shared.
func (t *Tree) Clone() *Tree {
	t.mu.RLock()
	defer t.mu.RUnlock()

	c := &Tree{spool: t.spool, inodes: t.inodes, names: t.names, xattrs: t.xattrs, below: t.below}
	c.root = t.root.clone(map[*inode]*inode{})
	return c
}

// clone copies n with its entries. copies holds the inodes with several names that were copied so
// far.
func (n *inode) clone(copies map[*inode]*inode) *inode {
	if c := copies[n]; c != nil {
		return c
	}

	c := *n
	c.xattrs = maps.Clone(n.xattrs)
	c.gone = nil
	c.opaque = 0
	if n.kids != nil {
		c.kids = make(map[string]*entry, len(n.kids))
		for name, kid := range n.kids {
			c.kids[name] = &entry{inode: kid.clone(copies)}
		}
	}

	if n.stat.Nlink > 1 {
		copies[n] = &c
	}

	return &c
}

// Empty returns a tree without files. Its root directory has the attributes of the root of t.
func (t *Tree) Empty() *Tree {
	t.mu.RLock()
	defer t.mu.RUnlock()

	e := New(t.spool)
	e.root.stat = withNumber(t.root.stat, e.root.stat.Ino)
	e.root.xattrs = maps.Clone(t.root.xattrs)
	e.below = e.rootAttributes()
	return e
}

// Begin starts a new layer: changes from now on belong to it.
func (t *Tree) Begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.layer++
	t.below = t.rootAttributes()
}

func (t *Tree) rootAttributes() commit.RootDir {
	return commit.RootDir{Mode: t.root.stat.Mode, UID: t.root.stat.UID, GID: t.root.stat.GID}
}

// Apply puts the files of the layer l on top of t, and removes the files that its whiteouts name
// (image-spec layer.md). The caller no longer uses l. After an error, which is one of the bounds,
// the caller no longer uses t either.
func (t *Tree) Apply(l *Tree) error {
	t.mu.Lock()
	defer t.mu.Unlock()

	t.names += l.names
	if t.names > maxFiles {
		return errTooMany
	}
	t.xattrs += l.xattrs
	if t.xattrs > maxXattrs {
		return errXattrs
	}

	t.renumber(l.root, map[*inode]bool{})
	t.merge(t.root, l.root)
	t.below = t.rootAttributes()
	return nil
}

// renumber gives the inodes of another tree, n and its entries, numbers of this tree.
func (t *Tree) renumber(n *inode, seen map[*inode]bool) {
	if seen[n] {
		return
	}
	seen[n] = true
	t.inodes++
	n.stat.Ino = t.inodes
	for _, kid := range n.kids {
		t.renumber(kid.inode, seen)
	}
}

const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh." // marks of aufs, which mean nothing, except:
	opaqueMarker   = ".wh..wh..opq"
)

// merge puts the directory upper on the directory lower.
func (t *Tree) merge(lower, upper *inode) {
	lower.applyWhiteouts(upper)

	for name, kid := range upper.kids {
		old := lower.kids[name]
		if old != nil && old.stat.Type == fdfs.Directory && kid.stat.Type == fdfs.Directory {
			t.merge(old.inode, kid.inode)
			continue
		}

		if kid.stat.Type == fdfs.Directory { // whiteouts in a new directory mean nothing: they are removed
			t.merge(&inode{kids: map[string]*entry{}}, kid.inode)
		}
		lower.drop(name)
		lower.kids[name] = &entry{inode: kid.inode}
	}

	lower.stat = withNumber(upper.stat, lower.stat.Ino)
	lower.xattrs = upper.xattrs
}

// applyWhiteouts removes the entries that the whiteouts of upper name, and removes the whiteouts
// from upper.
func (n *inode) applyWhiteouts(upper *inode) {
	if _, opaque := upper.kids[opaqueMarker]; opaque {
		n.kids = map[string]*entry{}
	}
	for name := range upper.kids {
		hidden, ok := strings.CutPrefix(name, whiteoutPrefix)
		if !ok {
			continue
		}
		if !strings.HasPrefix(name, whiteoutMeta) {
			n.drop(hidden)
		}
		delete(upper.kids, name)
	}
}

func withNumber(st fdfs.Stat, ino uint64) fdfs.Stat {
	st.Ino = ino
	return st
}

// drop removes a name.
func (n *inode) drop(name string) {
	if old := n.kids[name]; old != nil {
		old.stat.Nlink--
		delete(n.kids, name)
	}
}

// SetTimes sets the time of every inode of the current layer to epoch; with clamp, only of inodes
// that are later than epoch. upperdir.SetTimes does the same to an upper directory.
func (t *Tree) SetTimes(epoch time.Time, clamp bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.setTimes(t.root, epoch.Unix(), clamp)
}

func (t *Tree) setTimes(n *inode, epoch int64, clamp bool) {
	if !clamp || n.stat.Mtime.Sec >= epoch {
		n.stat.Mtime = fdfs.Time{Sec: epoch}
	}
	for _, kid := range n.kids {
		if kid.layer == t.layer {
			t.setTimes(kid.inode, epoch, clamp)
		}
	}
}
