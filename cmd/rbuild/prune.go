package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	cs "go.podman.io/storage"
	"go.podman.io/storage/pkg/lockfile"

	"codeberg.org/rbuild/rbuild/pkg/cache"
	"codeberg.org/rbuild/rbuild/pkg/store"
)

func newPruneCmd(a *app) *cobra.Command {
	var all, force bool
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Give back the space of what no image needs",
		Long: "Remove images that have no name and that no other image was built on, and the layers that belong to no image:\n" +
			"the cache of steps whose images are gone, and what interrupted pulls left more than a day ago. Waits for nothing:\n" +
			"while a build runs on the store, prune refuses.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStore(cmd, func(_ context.Context, st *store.Store) error {
				return prune(st, all, force, cmd.OutOrStdout())
			})
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&all, "all", "a", false, "remove all images that no container was made of, and the caches of RUN --mount=type=cache")
	f.BoolVarP(&force, "force", "f", false, "remove containers of podman and buildah that stand in the way, unless they are mounted")
	return cmd
}

// storeUse is the lock by which prune and what works on layers that belong to
// no image yet stay out of each other's way: builds and pulls hold it shared.
func storeUse(graphRoot string) (*lockfile.LockFile, error) {
	lock, err := lockfile.GetLockFile(filepath.Join(graphRoot, "rbuild-use.lock"))
	if err != nil {
		return nil, fmt.Errorf("locking the store at %s: %w", graphRoot, err)
	}
	return lock, nil
}

// useStore keeps prune away until release is called.
func useStore(st *store.Store) (release func(), err error) {
	lock, err := storeUse(st.GraphRoot())
	if err != nil {
		return nil, err
	}
	lock.RLock()
	return lock.Unlock, nil
}

func prune(st *store.Store, all, force bool, out io.Writer) error {
	lock, err := storeUse(st.GraphRoot())
	if err != nil {
		return err
	}
	if lock.TryLock() != nil {
		return errors.New("the store is in use by a build or a pull: prune when it has ended")
	}
	defer lock.Unlock()
	before, err := storedBytes(st)
	if err != nil {
		return err
	}
	used, err := usedImages(st)
	if err != nil {
		return err
	}
	condition := (*imageList).dangling
	if all {
		condition = func(_ *imageList, img *cs.Image) bool { return force || !used[img.ID] }
	} else if !force {
		condition = func(l *imageList, img *cs.Image) bool { return l.dangling(img) && !used[img.ID] }
	}
	imagesErr := remover{st: st, force: force, out: out}.removeIf(condition)
	layersErr := pruneLayers(st, time.Now())
	var cachesErr error
	if all {
		cachesErr = st.RemoveCaches()
	}
	after, err := storedBytes(st)
	if err := joinLines([]error{imagesErr, layersErr, cachesErr, err}); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "Total reclaimed space:", humanSize(before-after))
	return err
}

// storedBytes is what the layers of the store hold, uncompressed, and the caches of RUN --mount=type=cache.
func storedBytes(st *store.Store) (int64, error) {
	layers, err := st.Storage().Layers()
	if err != nil {
		return 0, fmt.Errorf("listing the layers: %w", err)
	}
	caches, err := st.Caches()
	if err != nil {
		return 0, err
	}
	sum := caches.Bytes
	for _, l := range layers {
		sum += max(l.UncompressedSize, 0)
	}
	return sum, nil
}

// pruneLayers removes layers that no image and no container needs, children
// first.
func pruneLayers(st *store.Store, now time.Time) error {
	layers, err := st.Storage().Layers()
	if err != nil {
		return fmt.Errorf("listing the layers: %w", err)
	}
	images, err := st.Storage().Images()
	if err != nil {
		return fmt.Errorf("listing the images: %w", err)
	}
	containers, err := st.Storage().Containers()
	if err != nil {
		return fmt.Errorf("listing the containers: %w", err)
	}
	var roots []string
	for _, img := range images {
		roots = append(append(roots, img.TopLayer), img.MappedTopLayers...)
	}
	for _, c := range containers {
		roots = append(roots, c.LayerID)
	}
	for _, id := range unneededLayers(layers, roots, now) {
		if err := st.Storage().DeleteLayer(id); err != nil && !errors.Is(err, cs.ErrLayerUnknown) {
			return fmt.Errorf("removing layer %s: %w", id, err)
		}
	}
	return nil
}

// foreignAge is how long a layer without any owner is left alone that rbuild
// did not make or that was pulled: another tool may be about to use it. It is
// the age that containers/storage's own check has.
const foreignAge = 24 * time.Hour

// unneededLayers are the IDs of the layers that may go, in an order in which
// they can: children before parents.
func unneededLayers(layers []cs.Layer, roots []string, now time.Time) []string {
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
		ours := slices.ContainsFunc(l.Names, cache.IsName)
		if l.ReadOnly || !ours && now.Sub(l.Created) < foreignAge {
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
