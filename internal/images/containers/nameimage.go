package containers

import (
	"fmt"

	cs "go.podman.io/storage"
)

// NameImage gives an image of the store more names, which it takes from the images that have them, and returns the
// image's manifest. The image itself stays as it is. id is the ID of its record.
func (s *Store) NameImage(id string, names []string) (manifest []byte, err error) {
	img, err := s.storage.Image(id)
	if err != nil {
		return nil, fmt.Errorf("reading image %s: %w", id, err)
	}
	manifest, err = s.document(img, cs.ImageDigestBigDataKey, img.BigDataDigests[cs.ImageDigestBigDataKey])
	if err != nil {
		return nil, err
	}
	return manifest, s.nameImage(img, names)
}
