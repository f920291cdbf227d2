package containers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	cs "go.podman.io/storage"
	"go.podman.io/storage/pkg/lockfile"
)

// mendLinks takes away the "link" files that a process was killed in the middle of writing. The library makes them empty
// first; when it removes the incomplete layer, at its next start, it joins the directory of all links with the name that
// the file holds, and removes that: with an empty name, the links of all layers (overlay.go, removeCommon, in v1.64.2).
// Without the file it leaves them alone.
//
// To be called before the library opens the store. died: a process has died, as its record says. Such a kill may leave a
// staging directory too; a store without any sign is not looked through.
func mendLinks(graphRoot string, died bool) error {
	home := filepath.Join(graphRoot, "overlay")
	staged, _ := fs.Glob(os.DirFS(stagingRoot(graphRoot)), stagingPrefix+"*") // the name of the store is no pattern
	if len(staged) == 0 && !died {
		return nil // a store that is not there yet, or has never staged anything
	}

	// Layers are made under this lock, so that no file is empty because it is just being written.
	lock, err := lockOf(graphRoot, "layers")
	if err != nil {
		return err
	}
	defer lock.Unlock()

	layers, err := os.ReadDir(home)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
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

// lockOf takes the library's lock on "layers", "images" or "containers" for reading: nobody changes them then.
func lockOf(graphRoot, kind string) (*lockfile.LockFile, error) {
	lock, err := lockfile.GetLockFile(filepath.Join(graphRoot, "overlay-"+kind, kind+".lock"))
	if err != nil {
		return nil, fmt.Errorf("locking the %s of the store: %w", kind, err)
	}
	lock.RLock()
	return lock, nil
}

// reap removes what processes that died have left, beyond what the library and sweep see to: it is for a store that is
// open.
func (s *Store) reap(dead []*record) error {
	root := s.GraphRoot()
	errs := []error{removeTemps(root), removeLinks(root), removeHalfImages(s.storage), s.releaseHolds(dead)}
	for _, r := range dead {
		errs = append(errs, r.reap())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing what an interrupted build left: %w", err)
	}
	return nil
}

// removeTemps removes the files that the library was writing, to be renamed when they are whole (pkg/ioutils,
// fswriters.go).
func removeTemps(graphRoot string) error {
	for _, kind := range []string{"layers", "images", "containers"} {
		home := filepath.Join(graphRoot, "overlay-"+kind)
		if _, err := os.Lstat(home); errors.Is(err, fs.ErrNotExist) {
			continue
		}

		lock, err := lockOf(graphRoot, kind)
		if err != nil {
			return err
		}

		for _, pattern := range []string{".tmp-*", "*/.tmp-*"} {
			temps, globErr := fs.Glob(os.DirFS(home), pattern)
			err = errors.Join(err, globErr)
			for _, t := range temps {
				err = errors.Join(err, os.Remove(filepath.Join(home, t)))
			}
		}

		lock.Unlock()
		if err != nil {
			return err
		}
	}

	return nil
}

// removeLinks removes short names of layers that are not there.
func removeLinks(graphRoot string) error {
	lock, err := lockOf(graphRoot, "layers")
	if err != nil {
		return err
	}
	defer lock.Unlock()

	home := filepath.Join(graphRoot, "overlay", "l")
	links, err := fs.Glob(os.DirFS(home), "*")
	for _, l := range links {
		l = filepath.Join(home, l)
		if _, gone := os.Stat(l); errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, os.Remove(l))
		}
	}

	return err
}

// halfImageWait is how long an image stays that has no manifest yet: podman 4 records an image, and stores its documents in calls
// of their own.
const halfImageWait = time.Second

// removeHalfImages removes the records of images without a manifest and a name: the library records an image before it
// stores its documents, both under one lock.
func removeHalfImages(lib cs.Store) error {
	half, err := halfImages(lib)
	if err != nil || len(half) == 0 {
		return err
	}

	time.Sleep(halfImageWait)
	still, err := halfImages(lib)
	for _, id := range still {
		if !slices.Contains(half, id) {
			continue
		}
		if _, removeErr := lib.DeleteImage(id, true); !errors.Is(removeErr, cs.ErrImageUnknown) {
			err = errors.Join(err, removeErr)
		}
	}

	return err
}

func halfImages(lib cs.Store) (ids []string, err error) {
	images, err := lib.Images()
	for _, img := range images {
		if len(img.Names) == 0 && !img.ReadOnly && !slices.Contains(img.BigDataNames, cs.ImageDigestBigDataKey) {
			ids = append(ids, img.ID)
		}
	}
	return ids, err
}
