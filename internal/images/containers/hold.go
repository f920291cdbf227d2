package containers

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	cs "go.podman.io/storage"
)

// holdPrefix begins the names of holds: rbuild-hold-<owner>-<random>. The owner is the name of the
// builder's file below rbuild-owners, so that the next command recognizes the holds of a dead
// builder.
const holdPrefix = "rbuild-hold-"

// flagOfImage marks a hold of a layer that belonged to an image when the hold was made.
const flagOfImage = "rbuild-of-image"

// ErrNoLayer says that the store does not have a layer.
var ErrNoLayer = cs.ErrLayerUnknown

// Hold is an empty layer on top of a layer that a build reads. The library, and every tool that
// uses it, keeps a layer that has a child (DeleteImage in store.go of containers/storage). So an
// image can be removed while a build reads its files, and the files stay until Release.
//
// buildah makes a container on the layer instead. But podman and buildah then refuse to remove the
// image, or remove the container with the image if --force is given, and the library writes another
// record.
type Hold struct {
	store *LayerStore
	layer cs.Layer
}

// Hold keeps the layer id and all layers below until Release. The error wraps ErrNoLayer if the
// store does not have the layer. The library writes its records of all layers twice for a hold, and
// twice for the release.
func (s *LayerStore) Hold(id string) (*Hold, error) {
	ofImage, err := s.belongsToImage(id)
	if err != nil {
		return nil, err
	}

	o := &cs.LayerOptions{}
	if ofImage {
		o.Flags = map[string]any{flagOfImage: true}
	}

	l, err := s.storage.CreateLayer("", id, []string{holdPrefix + s.owner + "-" + rand.Text()}, "", false, o)
	if err != nil {
		return nil, fmt.Errorf("holding layer %s: %w", id, err)
	}
	return &Hold{store: s, layer: *l}, nil
}

// belongsToImage reports whether an image needs the layer id, or needed the layer when another
// build made its hold.
func (s *LayerStore) belongsToImage(id string) (bool, error) {
	layers, err := s.storage.Layers()
	if err != nil {
		return false, fmt.Errorf("listing the layers: %w", err)
	}

	images, err := s.storage.Images()
	if err != nil {
		return false, fmt.Errorf("listing the images: %w", err)
	}

	var tops []string
	parents := make(map[string]string, len(layers))
	for _, l := range layers {
		parents[l.ID] = l.Parent
		if isHold(l) && l.Flags[flagOfImage] == true {
			tops = append(tops, l.Parent)
		}
	}

	for _, img := range images {
		tops = append(tops, img.TopLayer)
	}
	for _, at := range tops {
		for ; at != ""; at = parents[at] {
			if at == id {
				return true, nil
			}
		}
	}

	return false, nil
}

// isHold reports whether the layer is a hold.
func isHold(l cs.Layer) bool {
	return slices.ContainsFunc(l.Names, func(n string) bool { return strings.HasPrefix(n, holdPrefix) })
}

// Release ends the hold. If the image of the held layer was removed meanwhile, Release removes the
// layers that the hold alone has kept, as the removal would have done.
func (h *Hold) Release() error { return h.store.releaseHold(h.layer) }

func (s *LayerStore) releaseHold(hold cs.Layer) error {
	remove := func(id string) error {
		return s.reserve.freeing(func() error { return s.storage.DeleteLayer(id) })
	}
	if err := remove(hold.ID); err != nil && !isGone(err) {
		return fmt.Errorf("releasing layer %s: %w", hold.Parent, err)
	}
	if hold.Flags[flagOfImage] != true {
		return nil
	}

	// The library refuses to remove a layer that an image, a container or another layer needs.
	for id := hold.Parent; id != ""; {
		l, err := s.storage.Layer(id)
		if isGone(err) {
			return nil
		}

		if err == nil {
			err = remove(id)
		}
		switch {
		case isGone(err), errors.Is(err, cs.ErrLayerHasChildren), errors.Is(err, cs.ErrLayerUsedByImage),
			errors.Is(err, cs.ErrLayerUsedByContainer), errors.Is(err, cs.ErrStoreIsReadOnly):
			return nil
		case err != nil:
			return fmt.Errorf("removing layer %s of an image that was removed: %w", id, err)
		}
		id = l.Parent
	}

	return nil
}

// isGone reports whether a layer could not be found.
func isGone(err error) bool {
	return errors.Is(err, cs.ErrNotALayer) || errors.Is(err, cs.ErrLayerUnknown)
}

// releaseHolds ends the holds of owners that have died.
func (s *LayerStore) releaseHolds(dead []*record) error {
	layers, err := s.storage.Layers()
	if err != nil {
		return fmt.Errorf("listing the layers: %w", err)
	}

	var errs []error
	for _, l := range layers {
		of := func(r *record) bool {
			return slices.ContainsFunc(l.Names, func(n string) bool { return strings.HasPrefix(n, holdPrefix+r.name()+"-") })
		}
		if slices.ContainsFunc(dead, of) {
			errs = append(errs, s.releaseHold(l))
		}
	}

	return errors.Join(errs...)
}
