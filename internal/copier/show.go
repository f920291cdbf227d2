package copier

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// SelectPath selects and digests one path of tree, which is no pattern, to be mounted in place
// rather than copied: see Hide. Symbolic links are followed inside the tree. The digest covers the
// mode and the owner of the source itself too.
func SelectPath(ctx context.Context, tree *Tree, name string) (*Selection, error) {
	return Select(ctx, tree, Spec{Sources: []string{name}, Dest: "/" + ShownName, literal: true})
}

// ShownName is the name of the source in the directory that Materialize fills.
const ShownName = "source"

// Path returns the path of the first source relative to the root of its tree, free of symbolic
// links; "." is the root.
func (s *Selection) Path() string {
	it := s.items[0]
	if it.node.isDir() {
		return it.where
	}
	return path.Join(it.where, it.node.name)
}

// Hide fills the empty directory upper with whiteouts, so that an overlay of upper over the root of
// the tree shows at Path the files that SelectPath selected and no others. If a file of the tree
// has another mode or owner than the image would give it, ok is false: the caller uses Materialize
// then. upper may hold some whiteouts in this case.
func (s *Selection) Hide(upper *os.File) (ok bool, err error) {
	it := s.items[0]
	if !s.rules.keep(it.node) {
		return false, nil
	}
	if !it.node.isDir() {
		return true, nil
	}

	from := fdfs.NewCursor(s.tree.root)
	to := fdfs.NewCursor(fdfs.OnDisk(upper))
	defer from.Close()
	defer to.Close()
	if err := from.Enter("/"+it.where, nil); err != nil {
		return false, fmt.Errorf("source %s: %w", it.source, err)
	}

	h := &hider{rules: s.rules, node: it.node, create: func() (fdfs.Dir, error) {
		err := to.Enter("/"+it.where, func(dir fdfs.Dir, name string) error {
			return makeDir(dir, name, directory(fdfs.Owner{}, 0o755))
		})
		if err != nil {
			return nil, err
		}
		return to.Dir(), to.Dir().SetAttributes(".", fdfs.Attributes{Mode: new(s.rules.mode(it.node))})
	}}
	if err := h.hide(from.Dir()); err != nil {
		return false, fmt.Errorf("hiding files that source %s does not have: %w", it.source, err)
	}

	return true, nil
}

// keep reports whether n and all files below have the mode and the owner already that they get.
func (r rules) keep(n *node) bool {
	if n.stat.Mode != r.mode(n) || r.owner(n) != (fdfs.Owner{UID: n.stat.UID, GID: n.stat.GID}) {
		return false
	}
	for _, kid := range n.kids {
		if !r.keep(kid) {
			return false
		}
	}
	return true
}

// hider hides entries of one directory of the tree.
type hider struct {
	rules  rules
	node   *node                    // the directory
	create func() (fdfs.Dir, error) // makes the directory that stands for it in upper
	dir    fdfs.Dir                 // the result of create; nil: not made, because nothing had to be hidden so far
}

// upper returns the directory that stands for node in upper.
func (h *hider) upper() (fdfs.Dir, error) {
	if h.dir != nil {
		return h.dir, nil
	}
	dir, err := h.create()
	if err != nil {
		return nil, err
	}
	h.dir = dir
	return dir, nil
}

// hide puts whiteouts over the entries of src that the node does not have, there and below.
func (h *hider) hide(src fdfs.Dir) error {
	names, err := sortedNames(src)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := h.entry(src, name); err != nil {
			return err
		}
	}
	return nil
}

func (h *hider) entry(src fdfs.Dir, name string) error {
	i, selected := slices.BinarySearchFunc(h.node.kids, name, func(n *node, name string) int { return cmp.Compare(n.name, name) })
	if !selected {
		return h.whiteout(name)
	}
	if kid := h.node.kids[i]; kid.isDir() {
		return h.below(src, kid)
	}
	return nil
}

func (h *hider) whiteout(name string) error {
	dir, err := h.upper()
	if err != nil {
		return err
	}
	return fdfs.MakeWhiteout(fdfs.DescriptorOf(dir), name)
}

// below hides entries of the subdirectory kid. A directory that is made for kid gets its mode and
// time, because an overlay shows those of the upper directory.
func (h *hider) below(src fdfs.Dir, kid *node) error {
	sub, err := src.OpenDir(kid.name)
	if err != nil {
		return err
	}
	defer sub.Close() // only opened

	inner := &hider{rules: h.rules, node: kid, create: func() (fdfs.Dir, error) {
		dir, err := h.upper()
		if err != nil {
			return nil, err
		}
		if err := makeDir(dir, kid.name, directory(fdfs.Owner{}, h.rules.mode(kid))); err != nil {
			return nil, err
		}
		return dir.OpenDir(kid.name)
	}}
	err = inner.hide(sub)
	if inner.dir == nil {
		return err
	}

	return errors.Join(err, inner.dir.Close(), h.dir.SetAttributes(kid.name, fdfs.Attributes{Mtime: &kid.stat.Mtime}))
}

// Materialize copies the files that SelectPath selected to dir, as an entry named ShownName.
func (s *Selection) Materialize(ctx context.Context, dir fdfs.Dir) error {
	if err := s.Write(ctx, dir); err != nil {
		return err
	}
	n := s.items[0].node
	if !n.isDir() {
		return nil
	}
	return dir.SetAttributes(ShownName, s.rules.attributes(n))
}

// Pour copies the entries of the directory that SelectPath selected to dir, and gives dir the mode
// and the owner of the source.
func (s *Selection) Pour(ctx context.Context, dir fdfs.Dir) error {
	it := s.items[0]
	if !it.node.isDir() {
		return fmt.Errorf("source %s is no directory", it.source)
	}
	spec := s.spec
	spec.Dest = "/"
	if err := s.writeTo(ctx, dir, spec); err != nil {
		return err
	}
	return dir.SetAttributes(".", s.rules.attributes(it.node))
}
