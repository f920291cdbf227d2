package copier

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// writeTree writes the content of a source directory into the destination.
func (w *writer) writeTree(it *item) error {
	if err := w.enterDest(); err != nil {
		return err
	}
	from, err := w.source.open(it)
	if err != nil {
		return err
	}
	return w.entries(it.node, w.into, w.path, from, it.source)
}

// entries writes the kids of n into dst. src is the directory n.
func (w *writer) entries(n *node, dst *sharedDir, dstPath string, src *sharedDir, srcPath string) error {
	for _, kid := range n.kids {
		if err := w.pool.err(); err != nil {
			return err
		}

		to := place{dst, kid.name, path.Join(dstPath, kid.name)}
		from := place{src, kid.name, path.Join(srcPath, kid.name)}
		write := w.leaf
		if kid.isDir() {
			write = w.subtree
		}
		if err := write(kid, to, from); err != nil {
			return err
		}
	}

	return nil
}

// subtree writes the directory n with all its entries.
func (w *writer) subtree(n *node, to, from place) error {
	fresh, err := ensureDir(to)
	if err != nil {
		return err
	}
	dst, err := to.dir.OpenDir(to.name)
	if err != nil {
		return fmt.Errorf("writing %s: %w", to.path, err)
	}
	shared := share(dst)
	defer shared.release()

	if fresh || !n.merge {
		// After the last file: the mode may forbid to write into the directory, and each new entry
		// changes its time.
		shared.last = func() {
			if err := shared.SetAttributes(".", w.rules.attributesWithTime(n)); err != nil {
				w.pool.cancel(fmt.Errorf("writing %s: %w", to.path, err))
			}
		}
	}

	src, err := from.dir.OpenDir(from.name)
	if err != nil {
		return fmt.Errorf("source %s: %w", from.path, err)
	}
	sharedSrc := share(src)
	defer sharedSrc.release()
	return w.entries(n, shared, to.path, sharedSrc, from.path)
}

// ensureDir makes a directory unless it exists. fresh reports whether it was made.
func ensureDir(at place) (fresh bool, err error) {
	err = at.dir.Make(at.name, fdfs.Entry{Type: fdfs.Directory})
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return false, fmt.Errorf("writing %s: %w", at.path, err)
	}

	st, err := at.dir.Stat(at.name)
	if err != nil {
		return false, fmt.Errorf("writing %s: %w", at.path, err)
	}
	if st.Type != fdfs.Directory {
		return false, fmt.Errorf("writing %s: a directory cannot replace the %s that is there", at.path, st.Type)
	}

	return false, nil
}

// leaf writes an entry that is not a directory.
func (w *writer) leaf(n *node, to, from place) error {
	if n.stat.Type != fdfs.Regular {
		e := fdfs.Entry{Type: n.stat.Type, Target: n.target, Attributes: w.rules.attributesWithTime(n)}
		if err := replacing(to, func() error { return to.dir.Make(to.name, e) }); err != nil {
			return fmt.Errorf("writing %s: %w", to.path, err)
		}
		return nil
	}

	if n.link != nil {
		if done, err := w.hardLink(n, to); done || err != nil {
			return err
		}
	}

	j := &writeJob{rules: w.rules, node: n, src: from, to: to}
	if !n.shared {
		from.dir.retain()
		to.dir.retain()
		w.pool.submit(j)
		return nil
	}
	if err := j.run(w.self); err != nil { // now, so that it exists when the hard links to it are made
		return err
	}
	w.made[n] = to.path
	return nil
}

// hardLink makes a hard link to the file that is the same inode as n. done is false if a later
// source replaced that file.
func (w *writer) hardLink(n *node, to place) (done bool, err error) {
	first, ok := w.made[n.link]
	if !ok {
		return false, nil
	}

	dir, name := path.Split(first)
	if err := w.back.Enter("/"+dir, nil); err != nil {
		return false, fmt.Errorf("writing %s: %w", to.path, err)
	}
	err = replacing(to, func() error { return to.dir.Link(to.name, w.back.Dir(), name) })
	if err != nil {
		return false, fmt.Errorf("writing %s: %w", to.path, err)
	}

	return true, nil
}

// replacing calls create. If an entry that is not a directory is in the way, replacing removes the
// entry and calls create again.
func replacing(at place, create func() error) error {
	err := create()
	if !errors.Is(err, fs.ErrExist) {
		return err
	}

	st, err := at.dir.Stat(at.name)
	if err != nil {
		return err
	}
	if st.Type == fdfs.Directory {
		return errors.New("only a directory can replace the directory that is there")
	}
	if err := at.dir.Unlink(at.name); err != nil {
		return err
	}

	return create()
}
