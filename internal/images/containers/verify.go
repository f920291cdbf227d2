package containers

import (
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	cs "go.podman.io/storage"

	"codeberg.org/rbuild/rbuild/internal/images"
)

// Layers returns the layers of an image, lowest first. It compares their DiffIDs with
// rootfs.diff_ids of the config (image-spec, config.md): the ID of an image is the digest of its
// config, so that an image whose layers differ is not the image that the ID stands for. That is
// [images.ErrOtherLayers]. A layer without a DiffID, which another tool has pulled in parts, is an
// error too.
func (s ImageStore) Layers(img Image) ([]Layer, error) {
	chain, err := s.layers.Chain(img.TopLayer)
	if err != nil {
		return nil, err
	}
	return chain, images.VerifyLayers(img.name(), img.Config, diffIDs(chain))
}

// verifyImage is [ImageStore.Layers] for a library's handle. It accepts layers without a DiffID,
// and images without a config (schema 1).
func verifyImage(lib cs.Store, id string) error {
	s := ImageStore{layers: &LayerStore{storage: lib}}
	found, err := lib.Image(id)
	if err != nil {
		return fmt.Errorf("reading image %s: %w", id, err)
	}

	m, _, err := s.manifest(found)
	if errors.Is(err, errNoConfig) {
		return nil
	}
	if err != nil {
		return err
	}

	config, err := s.document(found, m.Config.Digest.String(), m.Config.Digest)
	if err != nil {
		return err
	}

	chain, err := s.layers.chain(found.TopLayer)
	if err != nil {
		return err
	}

	return images.VerifyLayers(Image{ID: found.ID, Names: found.Names}.name(), config, diffIDs(chain))
}

// diffIDs lists the DiffIDs of layers, in the same order.
func diffIDs(layers []Layer) []digest.Digest {
	ids := make([]digest.Digest, 0, len(layers))
	for _, l := range layers {
		ids = append(ids, l.DiffID)
	}
	return ids
}
