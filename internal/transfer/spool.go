package transfer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.podman.io/storage/pkg/lockfile"
)

// While a layer is pulled the library keeps it in a file of a temporary
// directory, and a process that is killed leaves that behind. So each copy has
// a directory of its own below one that belongs to rbuild, and holds a lock
// while it lives: whoever comes next removes the directories whose lock is
// free.
const (
	spoolPrefix = "rbuild-"
	spoolMaster = "rbuild.lock" // held while directories are made and removed
	lockSuffix  = ".lock"
)

// spoolBase is where the directories of copies lie: in the store, because it
// has the room for layers and is the user's alone. ($TMPDIR is neither.)
func (o Options) spoolBase(graphRoot string) string {
	if o.TempDir != "" {
		return o.TempDir
	}
	return filepath.Join(graphRoot, "tmp")
}

// newSpool makes a directory for one copy. release removes it.
func newSpool(base string) (dir string, release func() error, err error) {
	if err := os.MkdirAll(base, 0o700); err != nil {
		return "", nil, fmt.Errorf("making a directory for layers: %w", err)
	}

	master, err := lockfile.GetLockFile(filepath.Join(base, spoolMaster))
	if err != nil {
		return "", nil, fmt.Errorf("locking %s: %w", base, err)
	}

	master.Lock()
	defer master.Unlock()
	if err := sweep(base); err != nil {
		return "", nil, err
	}
	if dir, err = os.MkdirTemp(base, spoolPrefix); err != nil {
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

// Tidy removes what killed processes left of their pulls and pushes in the
// store at graphRoot (or in Options.TempDir). It costs one look at a directory
// if there is nothing, and is for every command that opens the store.
func Tidy(graphRoot string, o Options) error {
	base := o.spoolBase(graphRoot)
	left, err := fs.Glob(os.DirFS(base), spoolPrefix+"*") // the name of base is no pattern
	if err != nil || len(left) == 0 {
		return err
	}

	master, err := lockfile.GetLockFile(filepath.Join(base, spoolMaster))
	if err != nil {
		return fmt.Errorf("locking %s: %w", base, err)
	}

	master.Lock()
	defer master.Unlock()
	return sweep(base)
}

// sweep removes the directories whose processes are gone. The master lock must
// be held.
func sweep(base string) error {
	entries, err := os.ReadDir(base)
	if err != nil {
		return fmt.Errorf("tidying %s: %w", base, err)
	}

	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, spoolPrefix) || !e.IsDir() && !strings.HasSuffix(name, lockSuffix) {
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
	// Opening the lock creates it, which is why it is removed in every case but
	// one: that its process lives.
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
