package containers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// stagingLock is the file by which the user of a staging directory holds it, locked as linux.TryLock does. The library does
// the same with those that it lends, for pulls in parts.
const stagingLock = "staging.lock"

// sweep removes the directories of root that begin with prefix and whose process is gone: nobody holds their lock. One that
// is just being made can look like that, which is why NewStaging looks twice.
func sweep(root, prefix string) error {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for what interrupted builds left: %w", err)
	}

	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			errs = append(errs, sweepOne(filepath.Join(root, e.Name())))
		}
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

	free, err := fdfs.TryLock(lock)
	if err != nil || !free {
		return err
	}
	if err := removeStaging(dir); err != nil {
		return fmt.Errorf("removing what an interrupted build left: %w", err)
	}
	return nil
}

// removeStaging removes a staging directory whose lock the caller has. The lock goes last: as long as it is there nobody
// else gets it, and when it is gone there is nothing left to own.
func removeStaging(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) { // its owner has just removed it
		return nil
	}

	for _, e := range entries {
		if e.Name() != stagingLock {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	if err != nil {
		return err
	}

	err = os.RemoveAll(dir)
	for range stagingTries {
		if !errors.Is(err, fs.ErrExist) { // ENOTEMPTY: another process's sweep has just made a lock file in it
			break
		}
		err = os.RemoveAll(dir)
	}

	return err
}
