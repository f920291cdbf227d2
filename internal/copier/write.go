package copier

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// writer writes a selection below a root. It makes directories, links and special files itself, in order, and has other
// goroutines copy the files.
type writer struct {
	*Selection
	pool  *pool
	self  *worker // for what it copies itself
	root  fdfs.Dir
	dest  *fdfs.Cursor     // for destinations
	back  *fdfs.Cursor     // for what hard links point to
	tree  *Tree            // that holds the last source
	src   *fdfs.Cursor     // for sources in it
	made  map[*node]string // path of the files that others will be links to
	into  *sharedDir       // the destination, once it is known to be one directory for all items
	path  string           // of into
	from  *sharedDir       // the directory that holds the last source
	where string           // path of from
	names map[string]bool  // what has been written into into
	ways  []string         // paths of the directories that were made on the way to the destination, in this order
}

// place is a name in a directory.
type place struct {
	dir  *sharedDir
	name string
	path string // from the root, for messages
}

// Write writes the selection below root, a directory such as the merged view of an overlay. It needs to be root
// of a user namespace in which all owners are mapped, unless they are the caller's own. After an error
// the destination holds a part. Write may be called again, for another root.
func (s *Selection) Write(ctx context.Context, root fdfs.Dir) (err error) {
	s.unpacked = nil
	if len(s.items) == 0 {
		return nil
	}

	w := &writer{
		Selection: s, root: root, dest: fdfs.NewCursor(root), back: fdfs.NewCursor(root),
		pool: newPool(ctx), made: map[*node]string{}, names: map[string]bool{},
	}

	w.self = w.pool.newWorker()
	defer w.dest.Close()
	defer w.back.Close()

	err = w.writeItems()
	w.into.release()
	w.leaveSource()
	if err := w.pool.close(err); err != nil || !s.spec.Link {
		return err
	}
	return w.dateWays()
}

// dateWays gives the directories on the way to the destination the time of the latest source. It comes last, because each
// entry that is written changes the time of its directory.
func (w *writer) dateWays() error {
	var latest fdfs.Time
	for _, it := range w.items {
		if t := it.node.stat.Mtime; t.Sec > latest.Sec || t.Sec == latest.Sec && t.Nsec > latest.Nsec {
			latest = t
		}
	}

	for _, path := range slices.Backward(w.ways) {
		err := w.dest.Enter("/"+path, nil)
		if err == nil {
			err = w.dest.Dir().SetMtime(".", latest)
		}
		if err != nil {
			return fmt.Errorf("setting the time of %s: %w", path, err)
		}
	}

	return nil
}

func (w *writer) writeItems() error {
	files := 0
	for _, it := range w.items {
		if it.node.stat.Type != fdfs.Directory && !it.archive {
			files++
		}
	}

	for _, it := range w.items {
		if err := w.writeItem(it, files > 1); err != nil {
			return err
		}
	}

	return nil
}

// writeItem writes one source. Only files of different names are written side by side. several says that there is
// more than one file.
func (w *writer) writeItem(it *item, several bool) error {
	if !it.archive && it.node.stat.Type != fdfs.Directory {
		return errors.Join(w.writeSingle(it, several), w.pool.err())
	}
	if err := w.pool.flush(); err != nil {
		return err
	}

	clear(w.names)
	if it.archive {
		return w.writeArchive(it)
	}
	if err := w.writeTree(it); err != nil {
		return err
	}
	return w.pool.flush()
}

// destError names the path as the Dockerfile has it.
func (w *writer) destError(err error) error {
	return fmt.Errorf("destination %s: %w", w.spec.Dest, err)
}

// enterDest makes the destination a directory, if it is none, and remembers it.
func (w *writer) enterDest() error {
	if w.into != nil {
		return nil
	}
	if err := w.dest.Enter(w.spec.Dest, w.mkdir); err != nil {
		return w.destError(err)
	}

	dir, err := w.dest.Open()
	if err != nil {
		return w.destError(err)
	}

	w.into, w.path = share(dir), w.dest.Path()
	return nil
}

// mkdir makes a directory that leads to the destination.
func (w *writer) mkdir(dir fdfs.Dir, name string) error {
	var owner Owner
	if w.spec.Chown != nil {
		owner = *w.spec.Chown
	}
	w.ways = append(w.ways, path.Join(w.dest.Path(), name))
	return makeDir(dir, name, owner, w.chmod.forNewDir())
}

// makeDir makes a directory with exactly this owner and mode.
func makeDir(dir fdfs.Dir, name string, owner Owner, mode uint32) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := dir.Mkdir(name, 0o700); err != nil {
		return err
	}
	if err := dir.Chown(name, owner.UID, owner.GID); err != nil {
		return err
	}
	return dir.Chmod(name, mode)
}

// writeSingle writes one source that is not a directory. several says that there are others.
func (w *writer) writeSingle(it *item, several bool) error {
	if w.into != nil || wantsDir(w.spec.Dest) {
		return w.putInto(it)
	}

	name, st, err := w.dest.Resolve(w.spec.Dest, w.mkdir)
	if err != nil {
		return w.destError(err)
	}
	if st.Type == fdfs.Directory {
		return w.putInto(it)
	}
	if several {
		return w.destError(errors.New("a destination of several files must end with a slash"))
	}

	dir, err := w.dest.Open()
	if err != nil {
		return w.destError(err)
	}

	into := share(dir)
	defer into.release()

	return w.put(it, into, w.dest.Path(), name)
}

// putInto writes it under its own name into the destination.
func (w *writer) putInto(it *item) error {
	if err := w.enterDest(); err != nil {
		return err
	}
	return w.put(it, w.into, w.path, it.name)
}

// put writes the source it as name into the directory dst, which is at dstPath.
func (w *writer) put(it *item, dst *sharedDir, dstPath, name string) error {
	if err := checkName(name); err != nil {
		return w.destError(err)
	}

	to := place{dst, name, path.Join(dstPath, name)}
	if w.names[name] {
		if err := w.pool.flush(); err != nil {
			return err
		}
		maps.DeleteFunc(w.made, func(_ *node, path string) bool { return path == to.path })
	}

	w.names[name] = true
	if it.data != nil || it.remote != nil {
		j := &writeJob{sel: w.Selection, node: it.node, data: it.data, file: it.remote, to: to}
		return j.run(w.self)
	}

	src, err := w.source(it)
	if err != nil {
		return err
	}

	return w.leaf(it.node, to, place{src, it.node.name, it.source})
}

// source opens the directory that holds it, or that it is.
func (w *writer) source(it *item) (*sharedDir, error) {
	if w.from != nil && w.tree == it.tree && w.where == it.where {
		return w.from, nil
	}

	if w.tree != it.tree {
		w.leaveSource()
		w.tree, w.src = it.tree, fdfs.NewCursor(it.tree.root)
	}

	if err := w.src.Enter("/"+it.where, nil); err != nil {
		return nil, fmt.Errorf("source %s: %w", it.source, err)
	}

	dir, err := w.src.Open()
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", it.source, err)
	}

	w.from.release()
	w.from, w.where = share(dir), it.where
	return w.from, nil
}

// leaveSource closes what is open of the tree that holds the last source.
func (w *writer) leaveSource() {
	w.from.release()
	w.from = nil
	if w.src != nil {
		w.src.Close()
	}
	w.tree, w.src = nil, nil
}
