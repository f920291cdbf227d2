package copier

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// Changed compares the files that SelectPath selected with the files of today, for a source that is mounted in place. It
// returns the path of the first difference, relative to the root of the tree, or "".
//
// An edit that was undone counts, because whoever has looked in between saw it: files are compared by inode, size and
// times (as in Write), directories by their times. So an entry that the ignore file excludes counts too, if it was made
// or removed meanwhile in a directory that is selected.
func (s *Selection) Changed(ctx context.Context) (name string, err error) {
	for _, it := range s.items {
		if it.tree == nil {
			continue
		}
		changed, err := s.itemChanged(ctx, it)
		if changed != "" || err != nil {
			return changed, err
		}
	}
	return "", nil
}

func (s *Selection) itemChanged(ctx context.Context, it *item) (name string, err error) {
	c := fdfs.NewCursor(it.tree.root)
	defer c.Close()

	if err := c.Enter("/"+it.where, nil); isReplaced(err) || err == nil && path.Join("/", c.Path()) != path.Join("/", it.where) {
		return it.source, nil
	} else if err != nil {
		return "", fmt.Errorf("source %s: %w", it.source, err)
	}

	dir, err := c.Open()
	if err != nil {
		return "", fmt.Errorf("source %s: %w", it.source, err)
	}
	defer dir.Close()

	r := &rechecker{ctx: ctx, buf: make([]byte, bufferSize)}
	if it.node.stat.Type != fdfs.Directory {
		return r.entry(dir, it.node, it.where)
	}
	return r.directory(dir, it.node, it.where)
}

// isReplaced reports whether a path leads elsewhere than before, or nowhere.
func isReplaced(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || fdfs.IsNotDir(err)
}

type rechecker struct {
	ctx context.Context //nolint:containedctx // of one call
	buf []byte
}

// directory compares dir with its node.
func (r *rechecker) directory(dir fdfs.Dir, n *node, where string) (string, error) {
	if err := r.ctx.Err(); err != nil {
		return "", err
	}

	now, err := dir.Stat(".")
	if err != nil {
		return "", err
	}
	if !sameInode(n.stat, now) {
		return where, nil
	}

	for _, kid := range n.kids {
		if changed, err := r.entry(dir, kid, where); changed != "" || err != nil {
			return changed, err
		}
	}

	return "", nil
}

// entry compares an entry of dir with its node.
func (r *rechecker) entry(dir fdfs.Dir, n *node, where string) (string, error) {
	where = path.Join(where, n.name)
	now, err := dir.Stat(n.name)
	if isReplaced(err) {
		return where, nil
	}
	if err != nil {
		return "", err
	}
	if !sameInode(n.stat, now) {
		return where, nil
	}

	switch {
	case n.stat.Type == fdfs.Directory:
		sub, err := dir.OpenDir(n.name)
		if isReplaced(err) {
			return where, nil
		}
		if err != nil {
			return "", err
		}
		changed, err := r.directory(sub, n, where)
		return changed, errors.Join(err, sub.Close())
	case n.stat.Type == fdfs.Regular && n.racy:
		return r.content(dir, n, where)
	}

	return "", nil
}

// content digests a file again whose times say nothing.
func (r *rechecker) content(dir fdfs.Dir, n *node, where string) (string, error) {
	f, _, err := dir.OpenFile(n.name)
	if isReplaced(err) {
		return where, nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()

	w := &worker{ctx: r.ctx, buf: r.buf, hash: sha256.New()}
	if _, err := w.read(f, n.stat.Size, w.hash); err != nil {
		return "", err
	}

	var sum [32]byte
	if w.hash.Sum(sum[:0]); sum != n.sum {
		return where, nil
	}
	return "", nil
}

// sameInode reports whether a, as it was, is b: the same inode, with nothing done to it in between.
func sameInode(a, b fdfs.Stat) bool {
	return sameContent(a, b) && a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID
}
