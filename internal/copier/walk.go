package copier

import (
	"context"
	"fmt"
	"path"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// walker turns sources into nodes. It lists directories in one goroutine and has others digest the files.
type walker struct {
	pool    *pool
	sel     *Selection
	tree    *Tree
	ignore  *matcher // paths from the root of the tree
	exclude *matcher // paths from the source directory
}

func (s *Selection) newWalker(ctx context.Context) (*walker, error) {
	w := &walker{sel: s, tree: s.tree}
	var err error
	if s.tree != nil {
		if w.ignore, err = newMatcher(s.tree.ignore); err != nil {
			return nil, fmt.Errorf("ignore file: %w", err)
		}
	}

	if w.exclude, err = newMatcher(s.spec.Exclude); err != nil {
		return nil, fmt.Errorf("exclude: %w", err)
	}

	w.pool = newPool(ctx)
	return w, nil
}

// level is a directory of a walk, as its entries need it.
type level struct {
	dir      *sharedDir
	real     string // path from the root of the tree
	rel      string // path from the source, empty for the source itself
	ignored  matched
	excluded matched
	included matched
	include  *matcher // nil: everything
}

// directory returns the node of the directory c stands in, which is real in its tree, with all that is selected below
// it. It is nil if the ignore file excludes it and all that is in it.
func (w *walker) directory(c *fdfs.Cursor, real string, include *matcher) (*node, error) {
	st, err := c.Dir().Stat(".")
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", real, err)
	}

	out, ignored, err := w.ignore.path(real)
	if err != nil {
		return nil, err
	}

	dir, err := c.Open()
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", real, err)
	}

	n := &node{stat: st}
	l := &level{dir: share(dir), real: real, ignored: ignored, include: include}
	if err := w.entries(n, l); err != nil {
		return nil, err
	}
	if out && len(n.kids) == 0 {
		return nil, nil
	}

	return n, nil
}

// entries fills in the kids of n, which is the directory l, and releases l.dir.
func (w *walker) entries(n *node, l *level) (err error) {
	defer l.dir.release()

	names, err := readNames(l.dir.Dir)
	if err != nil {
		return fmt.Errorf("source %s: %w", l.real, err)
	}

	for _, name := range names {
		if err := w.pool.err(); err != nil {
			return err
		}
		kid, err := w.entry(name, l)
		if err != nil {
			return err
		}
		if kid != nil {
			n.kids = append(n.kids, kid)
		}
	}

	return nil
}

// entry returns the node of one directory entry, nil if it is filtered out.
func (w *walker) entry(name string, l *level) (*node, error) {
	real := path.Join(l.real, name)
	v, err := w.judge(path.Join(l.rel, name), real, l)
	if err != nil || !v.keep && !v.descend {
		return nil, err
	}

	st, err := l.dir.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", real, err)
	}

	n := &node{name: name, stat: st, merge: !v.keep && l.include != nil}
	if st.Type != fdfs.Directory {
		if !v.keep {
			return nil, nil
		}
		return w.leaf(n, l.dir, real)
	}
	if err := checkName(name); err != nil && v.keep {
		return nil, fmt.Errorf("source %s: %w", real, err)
	}

	sub, err := l.dir.OpenDir(name)
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", real, err)
	}

	v.below.dir = share(sub)
	if err := w.entries(n, &v.below); err != nil {
		return nil, err
	}
	if !v.keep && len(n.kids) == 0 {
		return nil, nil
	}

	return n, nil
}

// verdict is what the patterns say of a path.
type verdict struct {
	keep    bool  // it is selected
	descend bool  // if it is a directory, something below may be
	below   level // what its entries need, but for the directory itself
}

func (w *walker) judge(rel, real string, l *level) (v verdict, err error) {
	v.below = level{real: real, rel: rel, include: l.include}
	var ignored, excluded bool
	included := true
	if ignored, v.below.ignored, err = w.ignore.dir(real, l.ignored); err != nil {
		return v, err
	}
	if excluded, v.below.excluded, err = w.exclude.dir(rel, l.excluded); err != nil {
		return v, err
	}

	if l.include != nil {
		if included, v.below.included, err = l.include.dir(rel, l.included); err != nil {
			return v, err
		}
	}

	v.keep = included && !ignored && !excluded
	v.descend = v.keep || (included || l.include.mayMatchBelow(rel, false)) &&
		(!ignored || w.ignore.mayMatchBelow(real, true)) &&
		(!excluded || w.exclude.mayMatchBelow(rel, true))
	return v, nil
}

// leaf completes the node of what is not a directory; nil if it is left out.
func (w *walker) leaf(n *node, dir *sharedDir, real string) (*node, error) {
	if err := checkName(n.name); err != nil {
		return nil, fmt.Errorf("source %s: %w", real, err)
	}

	switch n.stat.Type {
	case fdfs.Regular:
		w.pool.submit(&hashJob{dir: dir.retain(), node: n, path: real, sparse: w.sel.spec.Sparse})
		return n, nil
	case fdfs.Symlink:
		var err error
		if n.target, err = dir.Readlink(n.name); err != nil {
			return nil, fmt.Errorf("source %s: %w", real, err)
		}
		return n, nil
	case fdfs.Fifo:
		return n, nil
	case fdfs.Socket:
		w.sel.warn("%s is a socket and left out", real)
		return nil, nil
	case fdfs.CharDevice, fdfs.BlockDevice:
		if n.stat.Rdev != 0 || w.tree.context { // 0:0 is overlayfs's whiteout: there is nothing
			w.sel.devices.add(real)
		}
		return nil, nil
	case fdfs.Directory, fdfs.Unknown:
	}

	return nil, fmt.Errorf("source %s: a %s cannot be copied", real, n.stat.Type)
}

// single returns the node of the source name in the directory c stands in, which is no directory and no link.
func (w *walker) single(c *fdfs.Cursor, name, source string) (*node, error) {
	st, err := c.Dir().Stat(name)
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", source, err)
	}

	dir, err := c.Open()
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", source, err)
	}

	shared := share(dir)
	defer shared.release()

	n, err := w.leaf(&node{name: name, stat: st}, shared, source)
	if err == nil && n == nil {
		err = fmt.Errorf("source %s: %w", source, &leftOutError{st.Type})
	}
	return n, err
}
