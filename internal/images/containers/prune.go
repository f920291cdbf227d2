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

// useLock returns the lock that keeps prune away from layers that belong to no image yet. Builds
// and pulls hold the lock shared until they end, prune holds it exclusively. No other command waits
// for the lock.
func (s *Store) useLock() (*lockfile.LockFile, error) {
	lock, err := lockfile.GetLockFile(filepath.Join(s.GraphRoot(), "rbuild-use.lock"))
	if err != nil {
		return nil, fmt.Errorf("locking the store at %s: %w", s.GraphRoot(), err)
	}
	return lock, nil
}

// Use keeps prune from running until release is called. If prune is running, Use waits until ctx
// ends.
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

// Exclusive is for prune. It fails with ErrInUse while a build or a pull works on the store.
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

// LayerBytes returns the size of all layers of the store, uncompressed, in bytes.
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

// PruneLayers removes the layers that no image and no container needs, children first. The caller
// holds Exclusive.
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

// strayAge is the age at which the directory of a trial belongs to no running process any more: a
// trial takes seconds.
const strayAge = time.Hour

// RemoveStray removes directories that killed trials left at the store's root: their names begin
// with one of the prefixes.
func (s *Store) RemoveStray(now time.Time, prefixes ...string) error {
	entries, err := os.ReadDir(s.GraphRoot())
	if err != nil {
		return fmt.Errorf("looking for directories of killed trials: %w", err)
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

// roots returns the topmost layers of all images and containers.
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

// foreignAge is the age until which a layer stays that belongs to no image and was pulled or made
// by another tool: that tool may be about to use the layer. The check of containers/storage uses
// the same age.
const foreignAge = 24 * time.Hour

// unneeded returns the IDs of the layers that can be removed, children before parents.
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
