package copier

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// writeTree writes the content of the directory it into the destination.
func (w *writer) writeTree(it *item) error {
	if err := w.enterDest(); err != nil {
		return err
	}
	src, err := w.source(it)
	if err != nil {
		return err
	}
	return w.entries(it.node, w.into, w.path, src, it.source)
}

// entries writes the kids of n, which src is, into dst.
func (w *writer) entries(n *node, dst *sharedDir, dstPath string, src *sharedDir, srcPath string) error {
	for _, kid := range n.kids {
		if err := w.pool.err(); err != nil {
			return err
		}

		to := place{dst, kid.name, path.Join(dstPath, kid.name)}
		from := place{src, kid.name, path.Join(srcPath, kid.name)}
		var err error
		if kid.stat.Type == fdfs.Directory {
			err = w.subtree(kid, to, from)
		} else {
			err = w.leaf(kid, to, from)
		}
		if err != nil {
			return err
		}
	}

	return nil
}

// subtree writes the directory n with all that is in it.
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
		// The mode may forbid writing into it and each entry changes its time: both last.
		shared.last = func() {
			if err := w.finishDir(n, shared, to.path); err != nil {
				w.pool.cancel(err)
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

// ensureDir makes a directory unless there is one.
func ensureDir(at place) (fresh bool, err error) {
	err = at.dir.Mkdir(at.name, 0o700)
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

// finishDir gives a directory its owner, mode and time.
func (w *writer) finishDir(n *node, d *sharedDir, at string) error {
	o := w.owner(n)
	err := d.Chown(".", o.UID, o.GID)
	if err == nil {
		err = d.Chmod(".", w.mode(n))
	}
	if err == nil {
		err = d.SetMtime(".", n.stat.Mtime)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", at, err)
	}
	return nil
}

// leaf writes what is not a directory.
func (w *writer) leaf(n *node, to, from place) error {
	if n.stat.Type != fdfs.Regular {
		if err := w.special(n, to); err != nil {
			return fmt.Errorf("writing %s: %w", to.path, err)
		}
		return nil
	}

	if n.link != nil {
		if done, err := w.hardLink(n, to); done || err != nil {
			return err
		}
	}

	j := &writeJob{sel: w.Selection, node: n, src: from, to: to}
	if !n.shared {
		from.dir.retain()
		to.dir.retain()
		w.pool.submit(j)
		return nil
	}
	if err := j.run(w.self); err != nil {
		return err
	}

	w.made[n] = to.path

	return nil
}

// hardLink makes to a link to the file that n is another name of. It is not done if a later source has taken its place.
func (w *writer) hardLink(n *node, to place) (done bool, err error) {
	first, ok := w.made[n.link]
	if !ok {
		return false, nil
	}

	dir, name := path.Split(first)
	if err := w.back.Enter("/"+dir, nil); err != nil {
		return false, fmt.Errorf("writing %s: %w", to.path, err)
	}

	err = replacing(to, func() error { return to.dir.Link(w.back.Dir(), name, to.name) })
	if err != nil {
		return false, fmt.Errorf("writing %s: %w", to.path, err)
	}
	return true, nil
}

// special makes a symbolic link or a fifo.
func (w *writer) special(n *node, to place) error {
	dir, mode := to.dir, w.mode(n)
	err := replacing(to, func() error {
		if n.stat.Type == fdfs.Symlink {
			return dir.Symlink(n.target, to.name)
		}
		return dir.Mknod(to.name, fdfs.Fifo, 0o600, 0)
	})
	if err != nil {
		return err
	}

	o := w.owner(n)
	if err := dir.Chown(to.name, o.UID, o.GID); err != nil {
		return err
	}

	if n.stat.Type != fdfs.Symlink {
		if err := dir.Chmod(to.name, mode); err != nil {
			return err
		}
	}

	return dir.SetMtime(to.name, n.stat.Mtime)
}

// replacing calls create, and again after removing what is in its way, unless that is a directory.
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
