package transfer

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.podman.io/storage/pkg/lockfile"

	"codeberg.org/rbuild/rbuild/internal/lease"
)

// While a layer is pulled the library keeps it in a file of a temporary directory, and a process
// that is killed leaves that file behind. So each copy has a directory of its own, for example
// <store>/tmp/rbuild-7QXK with the lock file <store>/tmp/rbuild-7QXK.lock, as a lease.
const (
	spoolPrefix = "rbuild-"
	spoolMaster = "rbuild.lock" // held while directories are made and removed: versions of rbuild without leases rely on it
	lockSuffix  = ".lock"
)

// spoolForm is the form of these leases.
const spoolForm = lease.Beside(lockSuffix)

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
	l, err := lease.New(spoolForm, base, spoolPrefix)
	if err != nil {
		return "", nil, fmt.Errorf("making a directory for layers: %w", err)
	}
	return l.Path(), l.Release, nil
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

// sweep removes the directories whose processes are dead. The master lock must be held.
func sweep(base string) error {
	if err := lease.Reap(spoolForm, base, func(name string) bool { return strings.HasPrefix(name, spoolPrefix) }); err != nil {
		return fmt.Errorf("tidying %s: %w", base, err)
	}
	return nil
}
