package memory

import (
	"context"
	"io"
	"maps"
	"slices"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/pkg/layer"
)

// WriteLayer writes the current layer to w as a tar. The tree sets o.Below itself.
func (t *Tree) WriteLayer(ctx context.Context, w io.Writer, o layer.Options) (layer.Result, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()

	below := t.below
	o.Below = &below
	return t.write(ctx, w, o, func(e *entry) bool { return e.layer == t.layer })
}

// WriteAll writes all files of the tree to w as one tar.
func (t *Tree) WriteAll(ctx context.Context, w io.Writer, o layer.Options) (layer.Result, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.write(ctx, w, o, func(*entry) bool { return true })
}

// write writes the entries that has selects. The tree is locked.
func (t *Tree) write(ctx context.Context, w io.Writer, o layer.Options, has func(*entry) bool) (layer.Result, error) {
	out := &tarrer{ctx: ctx, tar: layer.NewWriter(w, o), tree: t, has: has, merged: o.Merged, links: map[*inode]string{}}
	err := out.directory("", t.root)
	return out.tar.Close(t.root.stat.Mode, err)
}

// tarrer writes entries of a tree.
type tarrer struct {
	ctx    context.Context //nolint:containedctx // of one call of write
	tar    *layer.Writer
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
		if err := w.tar.Opaque(w.ctx, path, n.stat.Mtime.Sec); err != nil {
			return err
		}
	}

	for _, name := range w.names(n) {
		kid := n.kids[name]
		if kid == nil {
			if err := w.tar.Whiteout(w.ctx, path, name, n.stat.Mtime.Sec); err != nil {
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
func describe(n *inode, path string) layer.File {
	return layer.File{Path: path, Stat: n.stat, Target: n.target, Xattrs: n.xattrs}
}
