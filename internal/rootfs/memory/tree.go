// Package tree keeps the files of an image without a file system: names, owners, modes and links in memory, contents in
// one spool file. It serves builds where nothing can be mounted and no owner be changed.
//
//	spool, err := tree.NewSpool(dir)                 // dir: where temporary files may lie
//	base := tree.New(spool)                          // a layer
//	err = copy.ExtractLayer(ctx, tar, base.Root())   // as its tar has it, whiteouts too
//	err = whole.Apply(base)                          // what an overlay would show
//	whole.Begin()                                    // what changes from here on is a new layer
//	sel.Write(ctx, whole.Root())
//	res, err := whole.WriteLayer(ctx, w, commit.TarOptions{})
//
// A Tree keeps books as overlayfs does, so that WriteLayer gives the entries that an upper directory would: a directory
// in which something changed is copied up with those that lead to it, what was removed from below is a whiteout, a
// directory made in place of something else is opaque. The times of directories change when their entries do.
//
// Bounds, beside those of the kernel on names and links: 2 Mi names made or applied, and 64 MiB of extended attributes.
//
// Nothing of an image becomes a file of the host: links, devices and names are values here, and resolve below the root
// (linux.Cursor). A Tree may be used by several goroutines. Contents are never freed before the spool is.
package memory

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

const (
	maxFiles  = 2 << 20
	maxXattrs = 64 << 20 // bytes

	maxName   = 255  // bytes, NAME_MAX of include/uapi/linux/limits.h
	maxTarget = 4095 // PATH_MAX without its NUL
)

var (
	errTooMany = fmt.Errorf("more than %d files cannot be kept in memory", maxFiles)
	errXattrs  = fmt.Errorf("more than %d bytes of extended attributes cannot be kept in memory", maxXattrs)
)

// Tree is a file system in memory.
type Tree struct {
	spool *Spool

	mu     sync.RWMutex
	root   *inode
	layer  uint64 // number of the layer that is being made
	inodes uint64 // numbers given away
	names  int    // that were made or applied
	xattrs int    // bytes of extended attributes
	below  commit.RootDir
}

// inode is a file.
type inode struct {
	stat    fdfs.Stat
	target  string // of a symbolic link
	content extent // of a regular file
	xattrs  map[string]string

	// Of a directory:
	kids   map[string]*entry
	gone   map[string]uint64 // names of layers below that were removed -> the layer that did it
	opaque uint64            // the layer that hides all that was below
}

// entry is a name in a directory.
type entry struct {
	*inode
	layer uint64 // the one that has it, made or copied up; 0: below the first that Begin began
	below bool   // a layer below has the name too; so it is for those of a former layer anyway
}

// up notes that the layer has the name.
func (e *entry) up(layer uint64) {
	if e.layer != layer {
		e.layer, e.below = layer, true
	}
}

// hides tells whether the removal of name has to be recorded.
func (n *inode) hides(name string, layer uint64) bool {
	e := n.kids[name]
	return layer > 0 && (e.layer != layer || e.below)
}

// New returns an empty tree, whose root belongs to root and has mode 0755.
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

// Root opens the root directory. It need not be closed.
func (t *Tree) Root() fdfs.Dir { return &dir{tree: t, node: t.root} }

// Clone returns a copy, which shares contents.
func (t *Tree) Clone() *Tree {
	t.mu.RLock()
	defer t.mu.RUnlock()
	c := &Tree{spool: t.spool, inodes: t.inodes, names: t.names, xattrs: t.xattrs, below: t.below}
	copies := map[*inode]*inode{}
	c.root = t.root.clone(copies)
	return c
}

func (n *inode) clone(copies map[*inode]*inode) *inode {
	if c := copies[n]; c != nil {
		return c
	}

	c := *n
	c.xattrs = maps.Clone(n.xattrs)
	c.gone, c.opaque = nil, 0
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

// Empty returns a tree without files whose root is like this one's.
func (t *Tree) Empty() *Tree {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e := New(t.spool)
	e.root.stat = withNumber(t.root.stat, e.root.stat.Ino)
	e.root.xattrs = maps.Clone(t.root.xattrs)
	e.below = e.rootAttributes()
	return e
}

// Begin makes what changes from now on a new layer.
func (t *Tree) Begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.layer++
	t.below = t.rootAttributes()
}

func (t *Tree) rootAttributes() commit.RootDir {
	return commit.RootDir{Mode: t.root.stat.Mode, UID: t.root.stat.UID, GID: t.root.stat.GID}
}

// Apply puts the files of a layer on top, with whiteouts as image-spec layer.md has them. The layer must not be used
// afterwards. After an error, which is one of the bounds, the tree is of no use.
func (t *Tree) Apply(l *Tree) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.names += l.names; t.names > maxFiles {
		return errTooMany
	}
	if t.xattrs += l.xattrs; t.xattrs > maxXattrs {
		return errXattrs
	}

	t.renumber(l.root, map[*inode]bool{})
	t.merge(t.root, l.root)
	t.below = t.rootAttributes()
	return nil
}

// renumber gives inodes of another tree numbers of this one.
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
	whiteoutMeta   = ".wh..wh." // marks of aufs that mean nothing, but for:
	opaqueMarker   = ".wh..wh..opq"
)

// merge puts upper, a directory, on lower.
func (t *Tree) merge(lower, upper *inode) {
	if _, opaque := upper.kids[opaqueMarker]; opaque {
		lower.kids = map[string]*entry{}
	}
	for name := range upper.kids {
		hidden, ok := strings.CutPrefix(name, whiteoutPrefix)
		if !ok {
			continue
		}
		if !strings.HasPrefix(name, whiteoutMeta) {
			lower.drop(hidden)
		}
		delete(upper.kids, name)
	}

	for name, kid := range upper.kids {
		old := lower.kids[name]
		if old != nil && old.stat.Type == fdfs.Directory && kid.stat.Type == fdfs.Directory {
			t.merge(old.inode, kid.inode)
			continue
		}
		if kid.stat.Type == fdfs.Directory { // whiteouts in it mean nothing
			t.merge(&inode{kids: map[string]*entry{}}, kid.inode)
		}
		lower.drop(name)
		lower.kids[name] = &entry{inode: kid.inode}
	}

	lower.stat, lower.xattrs = withNumber(upper.stat, lower.stat.Ino), upper.xattrs
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

// SetTimes does what upperdir.SetTimes does to an upper directory, to the layer that is being made.
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

// WriteLayer writes the tar of the layer that is being made. o.Below is the tree's own business.
func (t *Tree) WriteLayer(ctx context.Context, w io.Writer, o commit.TarOptions) (commit.Tar, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	below := t.below
	o.Below = &below
	return t.write(ctx, w, o, func(e *entry) bool { return e.layer == t.layer })
}

// WriteAll writes the tar of the whole, flattened.
func (t *Tree) WriteAll(ctx context.Context, w io.Writer, o commit.TarOptions) (commit.Tar, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.write(ctx, w, o, func(*entry) bool { return true })
}

func (t *Tree) write(ctx context.Context, w io.Writer, o commit.TarOptions, has func(*entry) bool) (commit.Tar, error) {
	out := &tarrer{ctx: ctx, tar: commit.NewTarWriter(w, o), tree: t, has: has, whole: o.Merged, links: map[*inode]string{}}
	err := out.directory("", t.root)
	return out.tar.Close(fileMode(t.root.stat), err)
}

// tarrer writes the entries of a tree.
type tarrer struct {
	ctx   context.Context //nolint:containedctx // of the one call that it is for
	tar   *commit.TarWriter
	tree  *Tree
	has   func(*entry) bool
	whole bool
	links map[*inode]string // first names
}

// directory writes the entries of n, which is at path: empty or with a slash behind it.
func (w *tarrer) directory(path string, n *inode) error {
	if path == "" {
		if err := w.tar.Root(w.ctx, tarEntry(n, "./")); err != nil {
			return err
		}
	}

	if !w.whole && n.opaque == w.tree.layer && n.opaque > 0 {
		if err := w.tar.Opaque(w.ctx, path, modTime(n)); err != nil {
			return err
		}
	}

	names := slices.Collect(maps.Keys(n.kids))
	for name, by := range n.gone {
		if by == w.tree.layer && !w.whole {
			names = append(names, name)
		}
	}

	slices.Sort(names)
	for _, name := range names {
		kid := n.kids[name]
		if kid == nil {
			if err := w.tar.Whiteout(w.ctx, path, name, modTime(n)); err != nil {
				return err
			}
			continue
		}
		if !w.has(kid) {
			continue
		}
		if err := w.entry(path+name, kid.inode); err != nil {
			return err
		}
	}

	return nil
}

func (w *tarrer) entry(path string, n *inode) error {
	if n.stat.Type == fdfs.Directory {
		path += "/"
	}
	f := tarEntry(n, path)
	if first, ok := w.links[n]; ok {
		f.LinkTo = first
	} else if n.stat.Type != fdfs.Directory && n.stat.Nlink > 1 {
		w.links[n] = path
	}

	if err := w.tar.Add(w.ctx, f, w.tree.spool.reader(n.content)); err != nil {
		return err
	}
	if n.stat.Type == fdfs.Directory {
		return w.directory(path, n)
	}
	return nil
}

// tarEntry describes an inode for a tar.
func tarEntry(n *inode, path string) commit.TarEntry {
	return commit.TarEntry{
		Path:    path,
		Mode:    fileMode(n.stat),
		UID:     n.stat.UID,
		GID:     n.stat.GID,
		Size:    n.stat.Size,
		ModTime: modTime(n),
		Target:  n.target,
		Xattrs:  n.xattrs,
	}
}

func modTime(n *inode) time.Time { return time.Unix(n.stat.Mtime.Sec, 0) }

// fileMode converts the type and the permissions of a file to those of package os.
func fileMode(st fdfs.Stat) fs.FileMode {
	mode := fs.FileMode(st.Mode & 0o777)
	if st.Mode&0o4000 != 0 {
		mode |= fs.ModeSetuid
	}
	if st.Mode&0o2000 != 0 {
		mode |= fs.ModeSetgid
	}
	if st.Mode&0o1000 != 0 {
		mode |= fs.ModeSticky
	}

	switch st.Type {
	case fdfs.Regular:
		return mode
	case fdfs.Directory:
		return mode | fs.ModeDir
	case fdfs.Symlink:
		return mode | fs.ModeSymlink
	case fdfs.Fifo:
		return mode | fs.ModeNamedPipe
	case fdfs.Socket:
		return mode | fs.ModeSocket
	case fdfs.CharDevice:
		return mode | fs.ModeDevice | fs.ModeCharDevice
	case fdfs.BlockDevice:
		return mode | fs.ModeDevice
	case fdfs.Unknown:
	}
	return mode | fs.ModeIrregular
}
