package copier

import (
	"context"
	"fmt"
	"path"

	"codeberg.org/rbuild/rbuild/internal/archive"
	"codeberg.org/rbuild/rbuild/internal/ignore"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// walker turns sources into items. It lists directories in one goroutine; the goroutines of the
// pool digest the files.
type walker struct {
	spec    Spec
	tree    *Tree
	ignore  *ignore.Matcher // for paths from the root of the tree
	exclude *ignore.Matcher // for paths from the source directory
	pool    *pool

	items    []*item
	warnings []string
	devices  archive.Devices
}

func newWalker(ctx context.Context, tree *Tree, spec Spec) (*walker, error) {
	w := &walker{spec: spec, tree: tree}
	var err error
	if tree != nil {
		w.ignore, err = ignore.New(tree.ignore)
		if err != nil {
			return nil, fmt.Errorf("ignore file: %w", err)
		}
	}
	w.exclude, err = ignore.New(spec.Exclude)
	if err != nil {
		return nil, fmt.Errorf("exclude: %w", err)
	}
	w.pool = newPool(ctx)
	return w, nil
}

// level is a directory of a walk.
type level struct {
	dir      *sharedDir
	real     string // path from the root of the tree
	rel      string // path from the source directory, empty for the source directory itself
	ignored  ignore.Matched
	excluded ignore.Matched
	included ignore.Matched
	include  *ignore.Matcher // of --parents; nil: all files are included
}

// directory returns the node of the directory where c stands, at the path real of its tree, with
// all selected files below. It returns nil if the ignore file excludes the directory and all its
// files.
func (w *walker) directory(c *fdfs.Cursor, real string, include *ignore.Matcher) (*node, error) {
	st, err := c.Dir().Stat(".")
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", real, err)
	}
	out, ignored, err := w.ignore.Path(real)
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

// entries sets the kids of n, which is the directory l, and releases l.dir.
func (w *walker) entries(n *node, l *level) error {
	defer l.dir.release()

	names, err := sortedNames(l.dir.Dir)
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

// entry returns the node of the entry name of l, or nil if the entry is left out.
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
	if !n.isDir() {
		if !v.keep {
			return nil, nil
		}
		return w.leaf(n, l.dir, real)
	}

	if err := archive.CheckName(name); err != nil && v.keep {
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

// verdict is the result of the patterns about a path.
type verdict struct {
	keep    bool  // the path is selected
	descend bool  // if the path is a directory, an entry below may be selected
	below   level // the directory for its entries, without dir
}

// judge returns the verdict about an entry of l.
func (w *walker) judge(rel, real string, l *level) (v verdict, err error) {
	v.below = level{real: real, rel: rel, include: l.include}

	ignored, matched, err := w.ignore.Entry(real, l.ignored)
	if err != nil {
		return v, err
	}
	v.below.ignored = matched

	excluded, matched, err := w.exclude.Entry(rel, l.excluded)
	if err != nil {
		return v, err
	}
	v.below.excluded = matched

	included := true
	if l.include != nil {
		included, v.below.included, err = l.include.Entry(rel, l.included)
		if err != nil {
			return v, err
		}
	}

	v.keep = included && !ignored && !excluded
	v.descend = v.keep || (included || l.include.MayMatchBelow(rel, false)) &&
		(!ignored || w.ignore.MayMatchBelow(real, true)) &&
		(!excluded || w.exclude.MayMatchBelow(rel, true))
	return v, nil
}

// leaf completes the node of an entry that is not a directory. It returns nil if the entry is left
// out.
func (w *walker) leaf(n *node, dir *sharedDir, real string) (*node, error) {
	if err := archive.CheckName(n.name); err != nil {
		return nil, fmt.Errorf("source %s: %w", real, err)
	}

	switch n.stat.Type {
	case fdfs.Regular:
		w.pool.submit(&hashJob{dir: dir.retain(), node: n, path: real, sparse: w.spec.Sparse})
		return n, nil
	case fdfs.Symlink:
		target, err := dir.Readlink(n.name)
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", real, err)
		}
		n.target = target
		return n, nil
	case fdfs.Fifo:
		return n, nil
	case fdfs.Socket:
		w.warnings = append(w.warnings, real+" is a socket and left out")
		return nil, nil
	case fdfs.CharDevice, fdfs.BlockDevice:
		if n.stat.Rdev != 0 || w.tree.context { // in a stage, the device 0:0 is a whiteout of overlayfs: no file is there
			w.devices.Add(real)
		}
		return nil, nil
	case fdfs.Directory, fdfs.Unknown:
	}

	return nil, fmt.Errorf("source %s: a %s cannot be copied", real, n.stat.Type)
}

// single returns the node of the source name in the directory where c stands. The source is no
// directory and no symbolic link.
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
	if err != nil {
		return nil, err
	}
	if n == nil {
		return nil, fmt.Errorf("source %s: %w", source, &leftOutError{st.Type})
	}

	return n, nil
}
