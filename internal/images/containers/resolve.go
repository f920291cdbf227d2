package containers

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/docker/reference"
	istorage "go.podman.io/image/v5/storage"
	cs "go.podman.io/storage"

	"codeberg.org/rbuild/rbuild/internal/images"
)

var _ images.Store = (*Store)(nil)

// ResolveImage implements [images.Store].
func (s ImageStore) ResolveImage(ref string) (images.Image, error) {
	img, err := s.resolve(ref)
	if err != nil {
		return images.Image{}, err
	}
	return fromLibraryImage(img), nil
}

func (s ImageStore) resolve(ref string) (*cs.Image, error) {
	if named, err := reference.ParseNamed(ref); err == nil {
		return s.byName(named)
	}
	return s.byID(ref)
}

// byID finds an image by its ID, by the beginning of the ID, or by the digest of a config that only
// one image has.
func (s ImageStore) byID(id string) (*cs.Image, error) {
	img, err := s.layers.storage.Image(id)
	if errors.Is(err, cs.ErrImageUnknown) && reference.IsFullIdentifier(id) {
		img, err = byConfig(s.layers.storage, digest.NewDigestFromEncoded(digest.SHA256, id))
		if err == nil {
			return img, nil
		}
	}

	if errors.Is(err, images.ErrSeveral) {
		return nil, fmt.Errorf("%s: %w", id, err)
	}
	if err != nil || !strings.HasPrefix(img.ID, id) {
		return nil, fmt.Errorf("%s: %w", id, images.ErrNotFound)
	}
	return img, nil
}

// byName finds an image by a full name. An image whose layers are gone is not found.
func (s ImageStore) byName(named reference.Named) (*cs.Image, error) {
	ref, err := istorage.Transport.NewStoreReference(s.layers.storage, named, "")
	if err != nil {
		return nil, fmt.Errorf("looking up %s: %w", named, err)
	}

	_, img, err := istorage.ResolveReference(ref)
	if errors.Is(err, istorage.ErrNoSuchImage) || errors.Is(err, cs.ErrImageUnknown) {
		return nil, fmt.Errorf("%s: %w", named, images.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("looking up %s: %w", named, err)
	}
	if !hasLayers(s.layers.storage, img) {
		return nil, fmt.Errorf("%s: %w", named, images.ErrNotFound)
	}
	return img, nil
}

// hasLayers reports whether the topmost layer of an image is in the store.
func hasLayers(lib cs.Store, img *cs.Image) bool {
	return img.TopLayer == "" || lib.Exists(img.TopLayer)
}

// fromLibraryImage leaves [images.Usage] empty.
func fromLibraryImage(img *cs.Image) images.Image {
	own, ok := img.BigDataDigests[cs.ImageDigestBigDataKey]
	if !ok {
		own = img.Digest // of the manifest with which the image was first stored
	}
	return images.Image{
		ID:           img.ID,
		Names:        img.Names,
		NamesHistory: img.NamesHistory,
		Created:      img.Created,
		Digest:       own,
		Digests:      img.Digests,
		TopLayer:     img.TopLayer,
		ReadOnly:     img.ReadOnly,
	}
}

// ListImages implements [images.Store].
func (s ImageStore) ListImages() ([]images.Image, error) {
	found, err := s.layers.storage.Images()
	if err != nil {
		return nil, fmt.Errorf("listing the images: %w", err)
	}
	layers, err := s.layers.storage.Layers()
	if err != nil {
		return nil, fmt.Errorf("listing the layers: %w", err)
	}
	containers, err := s.layers.storage.Containers()
	if err != nil {
		return nil, fmt.Errorf("listing the containers: %w", err)
	}

	byID := make(map[string]*cs.Layer, len(layers))
	for i := range layers {
		byID[layers[i].ID] = &layers[i]
	}
	used := make(map[string]bool, len(containers))
	for _, c := range containers {
		used[c.ImageID] = true
	}

	list := make([]images.Image, 0, len(found))
	for i := range found {
		img := fromLibraryImage(&found[i])
		img.InUse = used[img.ID]
		for id := img.TopLayer; id != ""; {
			img.Layers = append(img.Layers, id)
			layer, ok := byID[id]
			if !ok {
				break
			}
			img.Size += layer.UncompressedSize
			id = layer.Parent
		}
		list = append(list, img)
	}
	return list, nil
}

// ReadImage implements [images.Store].
func (s ImageStore) ReadImage(id string) (images.Content, error) {
	img, err := s.layers.storage.Image(id)
	if err != nil {
		return images.Content{}, fmt.Errorf("reading image %s: %w", id, err)
	}

	m, raw, err := s.manifest(img)
	if err != nil {
		return images.Content{}, err
	}
	config, err := s.document(img, m.Config.Digest.String(), m.Config.Digest)
	if err != nil {
		return images.Content{}, err
	}

	content := images.Content{
		Config:       config,
		ConfigDigest: m.Config.Digest,
		Manifest:     raw,
		Annotations:  m.Annotations,
		Origins:      originsOf(s.layers.storage, img),
		Driver:       s.layers.storage.GraphDriverName(),
	}
	chain, err := s.layers.chain(img.TopLayer)
	if err != nil {
		content.LayersErr = err
		return content, nil //nolint:nilerr // the caller reads LayersErr
	}
	for _, l := range chain {
		content.Layers = append(content.Layers, images.Layer{DiffID: l.DiffID, Size: l.Size, Created: l.Created})
	}

	content.Directories, content.LayersErr = s.layers.Directories(img.TopLayer)
	return content, nil
}

// Digest returns the digest of an image's manifest as the registry of the full name has it; see
// [images.Digest]. It is "" if there is no image with this ID.
func (s ImageStore) Digest(id, name string) digest.Digest {
	img, err := s.layers.storage.Image(id)
	if err != nil {
		return ""
	}
	return images.Digest(originsOf(s.layers.storage, img), name, fromLibraryImage(img).Digest)
}

// RemoveImage implements [images.Store]. Layers that other images need stay.
func (s ImageStore) RemoveImage(id string, what images.Removal) error {
	if what.Name != "" {
		err := s.layers.reserve.freeing(func() error { return s.layers.storage.RemoveNames(id, []string{what.Name}) })
		if err != nil {
			return fmt.Errorf("removing the name %s: %w", what.Name, err)
		}
		return nil
	}

	if err := s.removeContainers(id, what.Force); err != nil {
		return err
	}
	err := s.layers.reserve.freeing(func() error {
		_, err := s.layers.storage.DeleteImage(id, true)
		return err
	})
	if err != nil {
		return fmt.Errorf("removing image %s: %w", images.ShortID(id), err)
	}
	return nil
}

// removeContainers removes the containers of an image. podman or buildah made them: rbuild makes
// none.
func (s ImageStore) removeContainers(image string, force bool) error {
	containers, err := s.layers.storage.Containers()
	if err != nil {
		return fmt.Errorf("listing the containers: %w", err)
	}

	for _, c := range containers {
		if c.ImageID != image {
			continue
		}

		inUse := &images.InUseError{Image: image, Container: c.ID}
		if !force {
			return inUse
		}
		mounts, err := s.layers.storage.Mounted(c.LayerID)
		if err != nil || mounts > 0 {
			inUse.Mounted = true
			return errors.Join(inUse, err)
		}
		if err := s.layers.reserve.freeing(func() error { return s.layers.storage.DeleteContainer(c.ID) }); err != nil {
			return fmt.Errorf("removing container %s: %w", images.ShortID(c.ID), err)
		}
	}
	return nil
}
