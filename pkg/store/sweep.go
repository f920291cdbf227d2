package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"codeberg.org/rbuild/rbuild/pkg/internal/linux"
)

// stagingLock is the file by which the overlay driver's user holds a staging directory, locked as linux.TryLock does.
const stagingLock = "staging.lock"

// sweep removes the staging directories whose process is gone: nobody holds their lock. One that is just being made can
// look like that, which is why newStaging looks twice. This process must hold none itself: to close a file gives back
// what locks the process has on it (fcntl(2)).
func sweep(root string) error {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for what interrupted builds left: %w", err)
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, sweepOne(filepath.Join(root, e.Name())))
	}
	return errors.Join(errs...)
}

func sweepOne(dir string) error {
	// Without its lock, too, it may have an owner, who is about to make it or has removed it with the rest to follow.
	lock, err := os.OpenFile(filepath.Join(dir, stagingLock), os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing what an interrupted build left: %w", err)
	}
	defer lock.Close()
	free, err := linux.TryLock(lock)
	if err != nil || !free {
		return err
	}
	// The lock goes last: as long as it is there nobody else gets it, and when it is gone there is nothing left to own.
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != stagingLock {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	if err != nil {
		return fmt.Errorf("removing what an interrupted build left: %w", err)
	}
	return os.RemoveAll(dir)
}
