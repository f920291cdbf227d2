package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"codeberg.org/rbuild/rbuild/pkg/internal/linux"
)

// stagingLock is the file by which the overlay driver's user holds a staging directory, locked as linux.TryLock does.
const stagingLock = "staging.lock"

// unlockedAge is how old a staging directory without a lock file must be to count as left behind: the library makes
// the directory first and its lock a moment later.
const unlockedAge = time.Minute

// sweep removes the staging directories whose process is gone: nobody holds their lock. The library's own clean-up
// would also remove one that another process is just making.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.stagingRoot())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for what interrupted builds left: %w", err)
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, sweepOne(filepath.Join(s.stagingRoot(), e.Name())))
	}
	return errors.Join(errs...)
}

func sweepOne(dir string) error {
	lock, err := os.OpenFile(filepath.Join(dir, stagingLock), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		info, err := os.Lstat(dir)
		if err != nil || time.Since(info.ModTime()) < unlockedAge {
			return nil // gone meanwhile, or being made
		}
		return os.RemoveAll(dir)
	}
	if err != nil {
		return fmt.Errorf("removing what an interrupted build left: %w", err)
	}
	defer lock.Close()
	free, err := linux.TryLock(lock)
	if err != nil || !free {
		return err
	}
	return os.RemoveAll(dir)
}
