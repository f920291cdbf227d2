// Package spool makes temporary directories for copies of images. While a layer is pulled, the
// library keeps it in a file of a temporary directory, and a process that is killed leaves the file
// behind. So each copy has a directory of its own below a base directory that belongs to rbuild,
// and holds a lock while its process lives. The next process removes the directories whose locks
// are free.
//
// The base directory is a directory of the store, because a store has the room for layers and
// belongs to the user alone. $TMPDIR is neither.
package spool

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.podman.io/storage/pkg/lockfile"

	"codeberg.org/rbuild/rbuild/internal/lease"
)

// A copy has a directory, for example <base>/rbuild-7QXK with the lock file
// <base>/rbuild-7QXK.lock, as a lease.
const (
	prefix = "rbuild-"
	// Master is the name of a file below the base that is locked while directories are made and
	// removed: versions of rbuild without leases rely on the lock.
	Master     = "rbuild.lock"
	lockSuffix = ".lock"
)

// form is the form of these leases.
const form = lease.Beside(lockSuffix)

// New makes a directory for one copy below base, which is made if it is missing. release removes
// the directory.
func New(base string) (dir string, release func() error, err error) {
	if err := os.MkdirAll(base, 0o700); err != nil {
		return "", nil, fmt.Errorf("making a directory for layers: %w", err)
	}

	master, err := lockfile.GetLockFile(filepath.Join(base, Master))
	if err != nil {
		return "", nil, fmt.Errorf("locking %s: %w", base, err)
	}

	master.Lock()
	defer master.Unlock()

	if err := sweep(base); err != nil {
		return "", nil, err
	}
	l, err := lease.New(form, base, prefix)
	if err != nil {
		return "", nil, fmt.Errorf("making a directory for layers: %w", err)
	}
	return l.Path(), l.Release, nil
}

// Tidy removes the directories below base that killed processes left. If there is nothing to
// remove, Tidy only lists base.
func Tidy(base string) error {
	left, err := fs.Glob(os.DirFS(base), prefix+"*") // the name of base is no pattern
	if err != nil || len(left) == 0 {
		return err
	}

	master, err := lockfile.GetLockFile(filepath.Join(base, Master))
	if err != nil {
		return fmt.Errorf("locking %s: %w", base, err)
	}

	master.Lock()
	defer master.Unlock()
	return sweep(base)
}

// sweep removes the directories whose processes are dead. The master lock must be held.
func sweep(base string) error {
	if err := lease.Reap(form, base, func(name string) bool { return strings.HasPrefix(name, prefix) }); err != nil {
		return fmt.Errorf("tidying %s: %w", base, err)
	}
	return nil
}
