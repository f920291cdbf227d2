package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.podman.io/storage/pkg/lockfile"
)

// mendLinks takes away the "link" files that a process was killed in the middle of writing. The library makes them empty
// first; when it removes the incomplete layer, at its next start, it joins the directory of all links with the name that
// the file holds, and removes that: with an empty name, the links of all layers (overlay.go, removeCommon, in v1.64.2).
// Without the file it leaves them alone.
//
// To be called before the library opens the store. Such a kill leaves a staging directory too, so a store without any is
// not looked through.
func mendLinks(graphRoot string) error {
	home := filepath.Join(graphRoot, "overlay")
	if staged, err := os.ReadDir(filepath.Join(home, "staging")); err != nil || len(staged) == 0 {
		return nil // a store that is not there yet, or has never staged anything
	}
	// Layers are made under this lock, so that no file is empty because it is just being written.
	lock, err := lockfile.GetLockFile(filepath.Join(graphRoot, "overlay-layers", "layers.lock"))
	if err != nil {
		return fmt.Errorf("locking the layers of the store: %w", err)
	}
	lock.RLock()
	defer lock.Unlock()
	layers, err := os.ReadDir(home)
	if err != nil {
		return fmt.Errorf("looking for what a killed process left: %w", err)
	}
	var errs []error
	for _, l := range layers {
		link := filepath.Join(home, l.Name(), "link")
		if info, err := os.Lstat(link); err == nil && info.Mode().IsRegular() && info.Size() == 0 {
			errs = append(errs, os.Remove(link))
		}
	}
	if err := errors.Join(errs...); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("mending what a killed process left: %w", err)
	}
	return nil
}
