// Package spool makes temporary directories for copies of images. While a layer is pulled, the library keeps it in a file of
// a temporary directory, and a process that is killed leaves the file behind. So each copy has a directory of its own below
// a base directory that belongs to rbuild, and holds a lock while its process lives. The next process removes the
// directories whose locks are free.
//
// The base directory is a directory of the store, because a store has the room for layers and belongs to the user alone.
// $TMPDIR is neither.
package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.podman.io/storage/pkg/lockfile"
)

const (
	prefix     = "rbuild-"
	lockSuffix = ".lock"

	// Master is the name of the file below a base directory that is locked while directories are made and removed.
	Master = "rbuild.lock"
)

// New makes a directory for one copy below base, which is made if it is missing. release removes the directory.
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
	if dir, err = os.MkdirTemp(base, prefix); err != nil {
		return "", nil, fmt.Errorf("making a directory for layers: %w", err)
	}

	lock, err := lockfile.GetLockFile(dir + lockSuffix)
	if err == nil {
		err = lock.TryLock()
	}
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("locking %s: %w", dir, err), os.RemoveAll(dir))
	}

	return dir, func() error {
		err := errors.Join(os.RemoveAll(dir), os.Remove(dir+lockSuffix))
		lock.Unlock()
		return err
	}, nil
}

// Tidy removes the directories below base that killed processes left. If there is nothing to remove, Tidy only lists base.
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

// sweep removes the directories whose processes have ended. The caller holds the master lock.
func sweep(base string) error {
	entries, err := os.ReadDir(base)
	if err != nil {
		return fmt.Errorf("tidying %s: %w", base, err)
	}

	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, prefix) || !e.IsDir() && !strings.HasSuffix(name, lockSuffix) {
			continue
		}
		dir := strings.TrimSuffix(filepath.Join(base, name), lockSuffix)
		if err := sweepOne(dir); err != nil {
			return fmt.Errorf("tidying %s: %w", base, err)
		}
	}

	return nil
}

func sweepOne(dir string) error {
	// GetLockFile creates the file. So the file is removed again, unless its process lives.
	lock, err := lockfile.GetLockFile(dir + lockSuffix)
	if err != nil {
		return err
	}
	if lock.TryLock() != nil {
		return nil
	}
	defer lock.Unlock()

	err = errors.Join(os.RemoveAll(dir), os.Remove(dir+lockSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
