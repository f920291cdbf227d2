package containers

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	cs "go.podman.io/storage"
)

// ErrOtherLayers says that the layers of an image in the store are not the layers that its config lists. An older podman
// accepts such an image from a registry.
var ErrOtherLayers = errors.New("its layers are not those of its config")

// Layers returns the layers of an image, lowest first. It compares their DiffIDs with rootfs.diff_ids of the config
// (image-spec, config.md): the ID of an image is the digest of its config, so that an image whose layers differ is not
// the image that the ID stands for. That is ErrOtherLayers. A layer without a DiffID, which another tool has pulled in
// parts, is an error too.
func (s *Store) Layers(img Image) ([]Layer, error) {
	chain, err := s.Chain(img.TopLayer)
	if err != nil {
		return nil, err
	}
	return chain, compareLayers(img, chain)
}

// VerifyImage is [Store.Layers] for callers that have the library's handle only. It accepts layers without a DiffID, and
// images without a config (schema 1).
func VerifyImage(lib cs.Store, id string) error {
	s := &Store{storage: lib}
	found, err := lib.Image(id)
	if err != nil {
		return fmt.Errorf("reading image %s: %w", id, err)
	}

	m, err := s.manifest(found)
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

	var chain []Layer
	for at := found.TopLayer; at != ""; {
		l, ok, err := s.LayerByName(at)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("layer %s is missing from the store: remove the image that needs it and pull it again", at)
		}
		chain = append([]Layer{l}, chain...)
		at = l.Parent
	}

	return compareLayers(Image{ID: found.ID, Names: found.Names, Config: config}, chain)
}

// compareLayers leaves out layers without a DiffID.
func compareLayers(img Image, chain []Layer) error {
	var config struct {
		RootFS struct {
			DiffIDs []digest.Digest `json:"diff_ids"`
		} `json:"rootfs"`
	}

	if err := json.Unmarshal(img.Config, &config); err != nil {
		return fmt.Errorf("reading the config of image %s: %w", img.name(), err)
	}

	claimed := config.RootFS.DiffIDs
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("image %s: %w: %s: remove it (rbuild rmi %s) and pull or build it again",
			img.name(), ErrOtherLayers, fmt.Sprintf(format, args...), img.name())
	}

	if len(claimed) != len(chain) {
		return refuse("the config lists %d layers, the image has %d", len(claimed), len(chain))
	}

	for i, l := range chain {
		if l.DiffID != "" && l.DiffID != claimed[i] {
			return refuse("layer %d has the digest %s, the config says %s", i+1, l.DiffID, claimed[i])
		}
	}

	return nil
}
