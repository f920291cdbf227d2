package copier

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// SelectPath finds and digests the one path name of tree, which is no pattern, to be shown where it lies rather than
// copied: see Hide. Links are followed inside the tree. The digest covers the source's own mode and owner too.
func SelectPath(ctx context.Context, tree *Tree, name string) (*Selection, error) {
	return Select(ctx, tree, Spec{Sources: []string{name}, Dest: "/" + ShownName, literal: true})
}

// ShownName is what Materialize calls the source.
const ShownName = "source"

// Path is where the first source lies, relative to the root of its tree and free of links; "." is the root.
func (s *Selection) Path() string {
	it := s.items[0]
	if it.node.stat.Type == fdfs.Directory {
		return it.where
	}
	return path.Join(it.where, it.node.name)
}

// Hide fills upper, an empty directory, so that an overlay with upper over the root of the tree shows at Path what has
// been selected and nothing else: it gets whiteouts for the rest. ok is false if the tree has something that was selected
// with another owner or mode than it is to be seen with; then use Materialize. upper may hold a part after that.
func (s *Selection) Hide(upper *os.File) (ok bool, err error) {
	it := s.items[0]
	if !s.asItIs(it.node) {
		return false, nil
	}
	if it.node.stat.Type != fdfs.Directory {
		return true, nil
	}

	from, to := fdfs.NewCursor(s.tree.root), fdfs.NewCursor(fdfs.OnDisk(upper))
	defer from.Close()
	defer to.Close()
	if err := from.Enter("/"+it.where, nil); err != nil {
		return false, fmt.Errorf("source %s: %w", it.source, err)
	}

	src, err := from.Open()
	if err != nil {
		return false, fmt.Errorf("source %s: %w", it.source, err)
	}
	defer src.Close()

	h := &hider{s: s, node: it.node, made: func() (fdfs.Dir, error) {
		if err := to.Enter("/"+it.where, func(dir fdfs.Dir, name string) error { return makeDir(dir, name, Owner{}, 0o755) }); err != nil {
			return nil, err
		}
		return to.Dir(), to.Dir().Chmod(".", s.mode(it.node))
	}}

	if err := h.hide(src); err != nil {
		return false, fmt.Errorf("hiding what source %s does not have: %w", it.source, err)
	}

	return true, nil
}

// asItIs reports whether n and all below it has the mode and the owner that it is to have.
func (s *Selection) asItIs(n *node) bool {
	if n.stat.Mode != s.mode(n) || s.owner(n) != (Owner{n.stat.UID, n.stat.GID}) {
		return false
	}
	for _, kid := range n.kids {
		if !s.asItIs(kid) {
			return false
		}
	}
	return true
}

// hider hides entries of one directory.
type hider struct {
	s    *Selection
	node *node
	dir  fdfs.Dir                 // in upper, once it is needed
	made func() (fdfs.Dir, error) // makes it
}

// upper is the directory's counterpart.
func (h *hider) upper() (dir fdfs.Dir, err error) {
	if h.dir == nil {
		h.dir, err = h.made()
	}
	return h.dir, err
}

// hide puts whiteouts over the entries of src that the node does not have, there and below.
func (h *hider) hide(src fdfs.Dir) error {
	names, err := readNames(src)
	if err != nil {
		return err
	}

	for _, name := range names {
		i, found := slices.BinarySearchFunc(h.node.kids, name, func(n *node, name string) int {
			switch {
			case n.name < name:
				return -1
			case n.name > name:
				return 1
			}
			return 0
		})

		if !found {
			err = h.whiteout(name)
		} else if kid := h.node.kids[i]; kid.stat.Type == fdfs.Directory {
			err = h.below(src, kid)
		}
		if err != nil {
			return err
		}
	}

	return nil
}

func (h *hider) whiteout(name string) error {
	dir, err := h.upper()
	if err != nil {
		return err
	}
	return fdfs.MakeWhiteout(fdfs.FileOf(dir), name)
}

// below hides in a subdirectory. What is made for it has its mode and time, because in an overlay the upper's show.
func (h *hider) below(src fdfs.Dir, kid *node) (err error) {
	sub, err := src.OpenDir(kid.name)
	if err != nil {
		return err
	}
	defer sub.Close()

	var owned fdfs.Dir
	inner := &hider{s: h.s, node: kid, made: func() (fdfs.Dir, error) {
		dir, err := h.upper()
		if err != nil {
			return nil, err
		}
		if err := makeDir(dir, kid.name, Owner{}, h.s.mode(kid)); err != nil {
			return nil, err
		}
		owned, err = dir.OpenDir(kid.name)
		return owned, err
	}}

	err = inner.hide(sub)
	if owned != nil {
		err = errors.Join(err, owned.Close(), h.dir.SetMtime(kid.name, kid.stat.Mtime))
	}

	return err
}

// Materialize copies what SelectPath selected to dir, under ShownName.
func (s *Selection) Materialize(ctx context.Context, dir fdfs.Dir) error {
	if err := s.Write(ctx, dir); err != nil {
		return err
	}
	n := s.items[0].node
	if n.stat.Type != fdfs.Directory {
		return nil
	}
	o := s.owner(n)
	return errors.Join(dir.Chown(ShownName, o.UID, o.GID), dir.Chmod(ShownName, s.mode(n)))
}

// Pour copies what is in the directory that SelectPath selected to dir, which gets its mode and owner.
func (s *Selection) Pour(ctx context.Context, dir fdfs.Dir) error {
	it := s.items[0]
	if it.node.stat.Type != fdfs.Directory {
		return fmt.Errorf("source %s is no directory", it.source)
	}
	into := *s
	into.spec.Dest = "/"
	if err := into.Write(ctx, dir); err != nil {
		return err
	}
	o := s.owner(it.node)
	return errors.Join(dir.Chown(".", o.UID, o.GID), dir.Chmod(".", s.mode(it.node)))
}
