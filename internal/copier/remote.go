package copier

import (
	"errors"
	"os"
	"time"
)

// Remote is a fetched source of ADD: a file, or a directory whose content is meant.
type Remote struct {
	Text string // the source in messages

	// Of a file, whose mode is 0600:
	File *os.File
	Name string // the name in a destination directory; if empty, the destination must name the file
	Size int64  // bytes
	Sum  [32]byte
	Time time.Time

	// Of a directory:
	Tree *Tree
	// Commit stands for the content of .git in the digest: two clones of one commit do not have the
	// same bytes there.
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
