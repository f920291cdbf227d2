package lease

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// File is the form of a lease that is a regular file with mode 0600, and carries the lock itself.
type File struct{}

func (File) path(parent, name string) string { return filepath.Join(parent, name) }

func (File) create(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func (File) open(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDWR, 0) }

func (File) tryLock(lock *os.File) (bool, error) { return fdfs.TryLock(lock) }

func (File) remove(path string) error { return ignoreMissing(os.Remove(path)) }

// Inside is the form of a lease that is a directory with mode 0700, and has a lock file of this
// name in the directory, for example Inside("staging.lock").
type Inside string

func (Inside) path(parent, name string) string { return filepath.Join(parent, name) }

func (Inside) create(path string) error { return os.Mkdir(path, 0o700) }

// open makes a missing lock file: the owner may be about to make the lock file too.
func (name Inside) open(path string) (*os.File, error) {
	return openLock(filepath.Join(path, string(name)))
}

func (Inside) tryLock(lock *os.File) (bool, error) { return fdfs.TryLock(lock) }

// removeTries bounds how often remove tries again because another process's Reap has made a lock
// file in the directory in between.
const removeTries = 20

func (name Inside) remove(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}

	for _, e := range entries {
		if e.Name() != string(name) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(path, e.Name())))
		}
	}
	if err != nil {
		return err
	}

	err = os.RemoveAll(path)
	for range removeTries {
		if !errors.Is(err, fs.ErrExist) { // ENOTEMPTY
			break
		}
		err = os.RemoveAll(path)
	}

	return err
}

// Beside is the form of a lease that is a directory with mode 0700, with a lock file next to the
// directory. The name of the lock file is that of the directory with this suffix: with
// Beside(".lock") the directory rbuild-1 has the lock file rbuild-1.lock.
type Beside string

// path returns the path of the directory also for the name of the lock file, whose directory may be
// gone.
func (suffix Beside) path(parent, name string) string {
	return filepath.Join(parent, strings.TrimSuffix(name, string(suffix)))
}

func (Beside) create(path string) error { return os.Mkdir(path, 0o700) }

func (suffix Beside) open(path string) (*os.File, error) { return openLock(path + string(suffix)) }

func (Beside) tryLock(lock *os.File) (bool, error) { return fdfs.TryLock(lock) }

func (suffix Beside) remove(path string) error {
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return ignoreMissing(os.Remove(path + string(suffix)))
}

// Directory is the form of a lease that is a directory and carries the lock itself, by flock(2).
// Use this form for file systems without regular files, such as cgroup. Both functions must be set.
type Directory struct {
	Make   func(path string) error // makes the directory; fs.ErrExist if the directory exists
	Remove func(path string) error // removes the directory and all below; nil if the directory does not exist
}

func (Directory) path(parent, name string) string { return filepath.Join(parent, name) }

func (d Directory) create(path string) error { return d.Make(path) }

func (Directory) open(path string) (*os.File, error) { return os.Open(path) }

func (Directory) tryLock(lock *os.File) (bool, error) { return fdfs.TryFlock(lock) }

func (d Directory) remove(path string) error { return d.Remove(path) }

// openLock opens a lock file, and makes a missing lock file with mode 0600.
func openLock(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
