package memory

import (
	"context"
	"io"
	"io/fs"
	"maps"
	"slices"
	"time"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// WriteLayer writes the current layer to w as a tar. The tree sets o.Below itself.
func (t *Tree) WriteLayer(ctx context.Context, w io.Writer, o commit.TarOptions) (commit.Tar, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()

	below := t.below
	o.Below = &below
	return t.write(ctx, w, o, func(e *entry) bool { return e.layer == t.layer })
}

// WriteAll writes all files of the tree to w as one tar.
func (t *Tree) WriteAll(ctx context.Context, w io.Writer, o commit.TarOptions) (commit.Tar, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.write(ctx, w, o, func(*entry) bool { return true })
}

// write writes the entries that has selects. The tree is locked.
func (t *Tree) write(ctx context.Context, w io.Writer, o commit.TarOptions, has func(*entry) bool) (commit.Tar, error) {
	out := &tarrer{ctx: ctx, tar: commit.NewTarWriter(w, o), tree: t, has: has, merged: o.Merged, links: map[*inode]string{}}
	err := out.directory("", t.root)
	return out.tar.Close(fileMode(t.root.stat), err)
}

// tarrer writes entries of a tree.
type tarrer struct {
	ctx    context.Context //nolint:containedctx // of one call of write
	tar    *commit.TarWriter
	tree   *Tree
	has    func(*entry) bool
	merged bool              // the tar stands for all layers: it has no whiteouts
	links  map[*inode]string // the first path of each inode with several names
}

// directory writes the entries of n. path is the path of n: "" for the root, "etc/" for /etc.
func (w *tarrer) directory(path string, n *inode) error {
	if path == "" {
		if err := w.tar.Root(w.ctx, describe(n, "./")); err != nil {
			return err
		}
	}
	if !w.merged && n.opaque == w.tree.layer && n.opaque > 0 {
		if err := w.tar.Opaque(w.ctx, path, modTime(n)); err != nil {
			return err
		}
	}

	for _, name := range w.names(n) {
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

// names returns the names of the entries of n and of its whiteouts, sorted.
func (w *tarrer) names(n *inode) []string {
	names := slices.Collect(maps.Keys(n.kids))
	for name, by := range n.gone {
		if by == w.tree.layer && !w.merged {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// entry writes n, and the entries of a directory.
func (w *tarrer) entry(path string, n *inode) error {
	if n.stat.Type == fdfs.Directory {
		path += "/"
		if err := w.tar.Add(w.ctx, describe(n, path), nil); err != nil {
			return err
		}
		return w.directory(path, n)
	}

	f := describe(n, path)
	if first, ok := w.links[n]; ok {
		f.LinkTo = first
	} else if n.stat.Nlink > 1 {
		w.links[n] = path
	}

	return w.tar.Add(w.ctx, f, w.tree.spool.reader(n.content))
}

// describe returns the description of n for a tar.
func describe(n *inode, path string) commit.TarEntry {
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

// modTime returns the time of n in whole seconds, as a layer has it.
func modTime(n *inode) time.Time { return time.Unix(n.stat.Mtime.Sec, 0) }

// fileMode returns type and mode as package io/fs has them.
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
