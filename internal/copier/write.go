package copier

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

	"codeberg.org/rbuild/rbuild/internal/archive"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// writer writes a selection below a root. It makes directories, links and special files itself, in
// order; the goroutines of the pool copy the files.
type writer struct {
	spec   Spec
	rules  rules
	items  []*item
	pool   *pool
	self   *worker      // for the files that the writer copies itself
	source sourceDir    // the directory of the last source
	dest   *fdfs.Cursor // finds destinations
	back   *fdfs.Cursor // finds the targets of hard links

	into  *sharedDir       // the destination directory of all items; nil: not known yet
	path  string           // path of into
	names map[string]bool  // names that were written into the directory into
	made  map[*node]string // paths of the files that later files are hard links to
	ways  []string         // paths of the directories that were made on the way to the destination, in this order

	warnings []string // about archives
}

// place is a name in a directory.
type place struct {
	dir  *sharedDir
	name string
	path string // from the root, for messages
}

// Write writes the selection below root, for example the merged directory of an overlay. The caller
// is root of a user namespace in which all owners are mapped, unless all owners are the caller.
// After an error the destination holds a part of the files. Write may be called again with another
// root.
func (s *Selection) Write(ctx context.Context, root fdfs.Dir) error {
	return s.writeTo(ctx, root, s.spec)
}

// writeTo is Write with another Spec for the same items.
func (s *Selection) writeTo(ctx context.Context, root fdfs.Dir, spec Spec) error {
	s.unpacked = nil
	if len(s.items) == 0 {
		return nil
	}

	w := &writer{
		spec: spec, rules: s.rules, items: s.items, pool: newPool(ctx),
		dest: fdfs.NewCursor(root), back: fdfs.NewCursor(root),
		names: map[string]bool{}, made: map[*node]string{},
	}
	w.self = w.pool.newWorker()
	defer w.dest.Close()
	defer w.back.Close()

	err := w.writeItems()
	w.into.release()
	w.source.close()
	err = w.pool.close(err)
	s.unpacked = w.warnings
	if err != nil || !spec.Link {
		return err
	}

	return w.dateWays()
}

// dateWays gives the directories on the way to the destination the time of the latest source. It
// runs last, because each new entry changes the time of its directory.
func (w *writer) dateWays() error {
	var latest fdfs.Time
	for _, it := range w.items {
		if t := it.node.stat.Mtime; t.Sec > latest.Sec || t.Sec == latest.Sec && t.Nsec > latest.Nsec {
			latest = t
		}
	}

	for _, way := range slices.Backward(w.ways) {
		err := w.dest.Enter("/"+way, nil)
		if err == nil {
			err = w.dest.Dir().SetAttributes(".", fdfs.Attributes{Mtime: &latest})
		}
		if err != nil {
			return fmt.Errorf("setting the time of %s: %w", way, err)
		}
	}

	return nil
}

func (w *writer) writeItems() error {
	files := 0
	for _, it := range w.items {
		if !it.node.isDir() && !it.archive {
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

// writeItem writes one source. Files of different names are written at the same time; a directory
// or an archive waits for the files before it. several reports whether there is more than one file.
func (w *writer) writeItem(it *item, several bool) error {
	if !it.archive && !it.node.isDir() {
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

// destError adds the destination as it is in the Dockerfile.
func (w *writer) destError(err error) error {
	return fmt.Errorf("destination %s: %w", w.spec.Dest, err)
}

// enterDest makes the destination a directory unless it is one, and opens it.
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
	w.into = share(dir)
	w.path = w.dest.Path()
	return nil
}

// mkdir makes a directory on the way to the destination.
func (w *writer) mkdir(dir fdfs.Dir, name string) error {
	w.ways = append(w.ways, path.Join(w.dest.Path(), name))
	return makeDir(dir, name, w.rules.newDir())
}

// makeDir makes the directory name of dir.
func makeDir(dir fdfs.Dir, name string, e fdfs.Entry) error {
	if err := archive.CheckName(name); err != nil {
		return err
	}
	return dir.Make(name, e)
}

// writeSingle writes one source that is not a directory. several reports whether there is more than
// one such source.
func (w *writer) writeSingle(it *item, several bool) error {
	if w.into != nil || namesDir(w.spec.Dest) {
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

// putInto writes a source into the destination directory, under its own name.
func (w *writer) putInto(it *item) error {
	if err := w.enterDest(); err != nil {
		return err
	}
	return w.put(it, w.into, w.path, it.name)
}

// put writes a source as name into the directory dst, whose path is dstPath.
func (w *writer) put(it *item, dst *sharedDir, dstPath, name string) error {
	if err := archive.CheckName(name); err != nil {
		return w.destError(err)
	}

	to := place{dst, name, path.Join(dstPath, name)}
	if w.names[name] { // it replaces an earlier source, which must be complete first
		if err := w.pool.flush(); err != nil {
			return err
		}
		maps.DeleteFunc(w.made, func(_ *node, path string) bool { return path == to.path })
	}
	w.names[name] = true

	if it.data != nil || it.remote != nil {
		j := &writeJob{rules: w.rules, node: it.node, data: it.data, file: it.remote, to: to}
		return j.run(w.self)
	}
	from, err := w.source.open(it)
	if err != nil {
		return err
	}

	return w.leaf(it.node, to, place{from, it.node.name, it.source})
}

// writeArchive unpacks an archive into the destination, and fails if the archive is not the one
// that Select digested.
func (w *writer) writeArchive(it *item) error {
	if err := w.enterDest(); err != nil {
		return err
	}
	in, err := it.open()
	if err != nil {
		return err
	}
	defer in.Close() // only read

	w.self.hash.Reset()
	archived := &teeReader{in, w.self}
	devices, err := archive.ExtractAdded(w.pool.ctx, archived, w.into.Dir, w.spec.Chown)
	if err != nil {
		return fmt.Errorf("unpacking %s: %w", it.source, err)
	}
	if err := archived.finish(); err != nil {
		return fmt.Errorf("unpacking %s: %w", it.source, err)
	}
	if w.self.sum() != it.node.sum {
		return fmt.Errorf("unpacking %s: %w", it.source, errChanged)
	}

	if text := devices.Text(); text != "" {
		w.warnings = append(w.warnings, it.source+": "+text)
	}

	return nil
}

// sourceDir is the directory of the last source. Consecutive sources of one directory need one
// walk. The zero value is ready.
type sourceDir struct {
	tree  *Tree
	at    *fdfs.Cursor // finds sources in tree
	dir   *sharedDir
	where string // path of dir
}

// open returns the directory that holds the source it, or that is the source. It is valid until the
// next call.
func (s *sourceDir) open(it *item) (*sharedDir, error) {
	if s.dir != nil && s.tree == it.tree && s.where == it.where {
		return s.dir, nil
	}
	if s.tree != it.tree {
		s.close()
		s.tree = it.tree
		s.at = fdfs.NewCursor(it.tree.root)
	}

	if err := s.at.Enter("/"+it.where, nil); err != nil {
		return nil, fmt.Errorf("source %s: %w", it.source, err)
	}
	dir, err := s.at.Open()
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", it.source, err)
	}
	s.dir.release()
	s.dir = share(dir)
	s.where = it.where
	return s.dir, nil
}

// close closes the directory. open may be called again.
func (s *sourceDir) close() {
	s.dir.release()
	if s.at != nil {
		s.at.Close()
	}
	*s = sourceDir{}
}
