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

// mendLinks removes empty "link" files of layers. The library creates such a file empty and then
// writes the name of a symbolic link in overlay/l to the file. If the process is killed in between,
// the next process removes the incomplete layer, and with the layer the path overlay/l/NAME: with
// an empty NAME that is the directory of the links of all layers (removeCommon in overlay.go of
// containers/storage v1.64.2). Without the file the library removes no link.
//
// mendLinks has to run before the library opens the store. died says that a process with a record
// has died. A store without a dead process and without staging directories is not searched.
func mendLinks(graphRoot string, died bool) error {
	home := filepath.Join(graphRoot, "overlay")
	staged, _ := fs.Glob(os.DirFS(stagingRoot(graphRoot)), stagingPrefix+"*") // the name of the store is no pattern
	if len(staged) == 0 && !died {
		return nil // also if the store does not exist yet
	}

	// The library makes layers under this lock, so that no file is empty because another process is
	// writing it.
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

// lockOf locks the library's records of kind "layers", "images" or "containers" for reading, so
// that nobody changes them.
func lockOf(graphRoot, kind string) (*lockfile.LockFile, error) {
	lock, err := lockfile.GetLockFile(filepath.Join(graphRoot, "overlay-"+kind, kind+".lock"))
	if err != nil {
		return nil, fmt.Errorf("locking the %s of the store: %w", kind, err)
	}
	lock.RLock()
	return lock, nil
}

// reap removes the remains of dead processes that neither the library nor sweep removes. The store
// is open.
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

// removeTemps removes files that the library had not finished and therefore not renamed
// (pkg/ioutils, fswriters.go).
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

// removeLinks removes symbolic links in overlay/l of layers that do not exist.
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

// halfImageWait is the time for which an image without a manifest stays: podman 4 records an image
// first, and then stores the documents in separate calls.
const halfImageWait = time.Second

// removeHalfImages removes images that have neither a manifest nor a name. The library records an
// image before it stores the documents, under one lock.
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
