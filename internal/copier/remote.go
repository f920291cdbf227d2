package copier

import (
	"errors"
	"os"
	"time"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// Remote is a source of ADD that was fetched: a file, or a directory whose content is meant.
type Remote struct {
	Text string // what messages call it

	// Of a file, whose mode is 0600:
	File *os.File
	Name string // where the destination is a directory; empty: it has none, and the destination must be a file
	Size int64  // bytes
	Sum  [32]byte
	Time time.Time

	// Of a directory:
	Tree *Tree
	// Commit stands for the content of .git in the digest: of one commit no two repositories are equal byte by byte.
	Commit string
}

// Close closes the file and the tree.
func (r Remote) Close() error {
	var errs []error
	if r.File != nil {
		errs = append(errs, r.File.Close())
	}
	if r.Tree != nil {
		errs = append(errs, r.Tree.Close())
	}
	return errors.Join(errs...)
}

// addRemote adds what was fetched.
func (w *walker) addRemote(r Remote) error {
	if r.Tree != nil {
		return w.addRemoteTree(r)
	}

	name := r.Name
	if name == "" {
		if wantsDir(w.sel.spec.Dest) {
			return errors.New("source " + r.Text + ": the URL names no file, so the destination must")
		}
		name = "download"
	}

	n := &node{name: name, sum: r.Sum, stat: fdfs.Stat{
		Type: fdfs.Regular, Mode: 0o600, Nlink: 1, Size: r.Size,
		Mtime: fdfs.Time{Sec: r.Time.Unix(), Nsec: int64(r.Time.Nanosecond())},
	}}

	w.sel.items = append(w.sel.items, &item{name: name, source: r.Text, remote: r.File, node: n})
	return nil
}

// addRemoteTree adds the content of a tree that is not the one that paths are in.
func (w *walker) addRemoteTree(r Remote) error {
	inner := *w
	inner.tree, inner.ignore = r.Tree, nil
	if err := inner.addPath("."); err != nil {
		return err
	}

	it := w.sel.items[len(w.sel.items)-1]
	it.source = r.Text
	for _, kid := range it.node.kids {
		if kid.name == ".git" && r.Commit != "" {
			kid.known = r.Commit
		}
	}

	return nil
}
