package copier

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// Changed compares the files that SelectPath selected with the files as they are now, for a source
// that is mounted in place. It returns the path of the first difference, relative to the root of
// the tree, or "" if there is none.
//
// An edit that was undone counts, because a process may have read the file in between: files are
// compared by inode, size and times, as in Write, and directories by their times. So an excluded
// entry that was made or removed in a selected directory counts too.
func (s *Selection) Changed(ctx context.Context) (name string, err error) {
	for _, it := range s.items {
		if it.tree == nil {
			continue
		}
		changed, err := itemChanged(ctx, it)
		if changed != "" || err != nil {
			return changed, err
		}
	}
	return "", nil
}

func itemChanged(ctx context.Context, it *item) (name string, err error) {
	c := fdfs.NewCursor(it.tree.root)
	defer c.Close()

	err = c.Enter("/"+it.where, nil)
	if isReplaced(err) {
		return it.source, nil
	}
	if err != nil {
		return "", fmt.Errorf("source %s: %w", it.source, err)
	}
	if path.Join("/", c.Path()) != path.Join("/", it.where) { // a symbolic link replaced a directory on the way
		return it.source, nil
	}

	r := &rechecker{worker: newWorker(ctx)}
	if it.node.isDir() {
		return r.directory(c.Dir(), it.node, it.where)
	}

	return r.entry(c.Dir(), it.node, it.where)
}

// isReplaced reports whether the error of a path says that the path leads nowhere, or leads through
// a file.
func isReplaced(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || fdfs.IsNotDir(err)
}

// rechecker compares the files of one source. Its methods return the path of the first difference,
// or "".
type rechecker struct{ worker *worker }

// directory compares dir, whose path is where, with its node n.
func (r *rechecker) directory(dir fdfs.Dir, n *node, where string) (string, error) {
	if err := r.worker.ctx.Err(); err != nil {
		return "", err
	}
	now, err := dir.Stat(".")
	if err != nil {
		return "", err
	}
	if !unchanged(n.stat, now) {
		return where, nil
	}
	for _, kid := range n.kids {
		if changed, err := r.entry(dir, kid, where); changed != "" || err != nil {
			return changed, err
		}
	}

	return "", nil
}

// entry compares an entry of dir, whose path is where, with its node n.
func (r *rechecker) entry(dir fdfs.Dir, n *node, where string) (string, error) {
	where = path.Join(where, n.name)
	now, err := dir.Stat(n.name)
	if isReplaced(err) {
		return where, nil
	}
	if err != nil {
		return "", err
	}
	if !unchanged(n.stat, now) {
		return where, nil
	}

	switch {
	case n.isDir():
		return r.subdirectory(dir, n, where)
	case n.stat.Type == fdfs.Regular && n.racy:
		return r.content(dir, n, where)
	}

	return "", nil
}

func (r *rechecker) subdirectory(dir fdfs.Dir, n *node, where string) (string, error) {
	sub, err := dir.OpenDir(n.name)
	if isReplaced(err) {
		return where, nil
	}
	if err != nil {
		return "", err
	}
	changed, err := r.directory(sub, n, where)
	return changed, errors.Join(err, sub.Close())
}

// content digests a file again, because its times do not show every change.
func (r *rechecker) content(dir fdfs.Dir, n *node, where string) (string, error) {
	f, _, err := dir.OpenFile(n.name)
	if isReplaced(err) {
		return where, nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close() // only read

	r.worker.hash.Reset()
	if _, err := r.worker.read(f, n.stat.Size, r.worker.hash); err != nil {
		return "", err
	}
	if r.worker.sum() != n.sum {
		return where, nil
	}

	return "", nil
}

// unchanged reports whether two states of an inode, a and later b, are the same, with no change in
// between.
func unchanged(a, b fdfs.Stat) bool {
	return sameContent(a, b) && a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID
}
