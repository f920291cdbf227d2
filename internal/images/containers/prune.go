package containers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	cs "go.podman.io/storage"
	"go.podman.io/storage/pkg/lockfile"
)

// ErrInUse is returned by Exclusive while a build or a pull works on the store.
var ErrInUse = errors.New("the store is in use by a build or a pull: prune when it has ended")

// useLock is the lock by which pruning and what works on layers that belong to no image yet stay out of each other's
// way: builds and pulls hold it shared, for as long as they take; nothing else waits for it.
func (s *Store) useLock() (*lockfile.LockFile, error) {
	lock, err := lockfile.GetLockFile(filepath.Join(s.GraphRoot(), "rbuild-use.lock"))
	if err != nil {
		return nil, fmt.Errorf("locking the store at %s: %w", s.GraphRoot(), err)
	}
	return lock, nil
}

// Use keeps pruning away until release is called. It waits while a pruning is under way, until ctx ends.
func (s *Store) Use(ctx context.Context) (release func(), err error) {
	lock, err := s.useLock()
	if err != nil {
		return nil, err
	}

	for lock.TryRLock() != nil {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}

	return lock.Unlock, nil
}

// Exclusive is for pruning: it fails with ErrInUse while anyone uses the store.
func (s *Store) Exclusive() (release func(), err error) {
	lock, err := s.useLock()
	if err != nil {
		return nil, err
	}
	if lock.TryLock() != nil {
		return nil, ErrInUse
	}
	return lock.Unlock, nil
}

// LayerBytes is what the layers of the store hold, uncompressed.
func (s *LayerStore) LayerBytes() (int64, error) {
	layers, err := s.storage.Layers()
	if err != nil {
		return 0, fmt.Errorf("listing the layers: %w", err)
	}
	var sum int64
	for _, l := range layers {
		sum += max(l.UncompressedSize, 0)
	}
	return sum, nil
}

// PruneLayers removes the layers that no image and no container needs, children first. The caller holds Exclusive.
func (s *LayerStore) PruneLayers(now time.Time) error {
	layers, err := s.storage.Layers()
	if err != nil {
		return fmt.Errorf("listing the layers: %w", err)
	}

	roots, err := s.roots()
	if err != nil {
		return err
	}

	for _, id := range unneeded(layers, roots, now) {
		err := s.reserve.freeing(func() error { return s.storage.DeleteLayer(id) })
		if err != nil && !errors.Is(err, cs.ErrLayerUnknown) {
			return fmt.Errorf("removing layer %s: %w", id, err)
		}
	}

	return nil
}

// strayAge is how old a directory of a trial must be to be nobody's: a trial takes seconds.
const strayAge = time.Hour

// RemoveStray removes what trials that were killed have left at the store's root: directories whose names begin with one of
// the prefixes.
func (s *Store) RemoveStray(now time.Time, prefixes ...string) error {
	entries, err := os.ReadDir(s.GraphRoot())
	if err != nil {
		return fmt.Errorf("looking for what a killed trial left: %w", err)
	}

	var errs []error
	for _, e := range entries {
		named := slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(e.Name(), p) })
		if info, err := e.Info(); !named || err != nil || !info.IsDir() || now.Sub(info.ModTime()) < strayAge {
			continue
		}
		errs = append(errs, os.RemoveAll(filepath.Join(s.GraphRoot(), e.Name())))
	}

	return errors.Join(errs...)
}

// roots are the topmost layers of all images and containers.
func (s *LayerStore) roots() (ids []string, err error) {
	images, err := s.storage.Images()
	if err != nil {
		return nil, fmt.Errorf("listing the images: %w", err)
	}

	containers, err := s.storage.Containers()
	if err != nil {
		return nil, fmt.Errorf("listing the containers: %w", err)
	}

	for _, img := range images {
		ids = append(append(ids, img.TopLayer), img.MappedTopLayers...)
	}
	for _, c := range containers {
		ids = append(ids, c.LayerID)
	}
	return ids, nil
}

// foreignAge is how long a layer without any owner is left alone that rbuild did not make or that was pulled: another
// tool may be about to use it. It is the age that containers/storage's own check has.
const foreignAge = 24 * time.Hour

// unneeded are the IDs of the layers that may go, in an order in which they can: children before parents.
func unneeded(layers []cs.Layer, roots []string, now time.Time) []string {
	byID := make(map[string]cs.Layer, len(layers))
	for _, l := range layers {
		byID[l.ID] = l
	}
	needed := make(map[string]bool)
	keep := func(id string) {
		for ; id != "" && !needed[id]; id = byID[id].Parent {
			needed[id] = true
		}
	}

	for _, id := range roots {
		keep(id)
	}
	for _, l := range layers {
		if l.ReadOnly || l.Metadata != madeByUs && !isHold(l) && now.Sub(l.Created) < foreignAge {
			keep(l.ID)
		}
	}

	depth := func(id string) (n int) {
		for ; id != ""; id = byID[id].Parent {
			n++
		}
		return n
	}

	var gone []string
	for _, l := range layers {
		if !needed[l.ID] {
			gone = append(gone, l.ID)
		}
	}

	slices.SortStableFunc(gone, func(a, b string) int { return depth(b) - depth(a) })

	return gone
}
