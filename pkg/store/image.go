package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	cs "go.podman.io/storage"
)

// maxConfig bounds the config and manifest documents that are read into memory, in bytes.
const maxConfig = 8 << 20

// Image is what a build needs to know of an image of the store.
type Image struct {
	ID       string // hexadecimal digest of the config document
	TopLayer string // ID of the topmost layer; "": an image without layers
	Config   []byte // the config document, as stored; its digest is verified
	Names    []string
}

// name is a name by which people know the image: its first, or its ID.
func (i Image) name() string {
	if len(i.Names) > 0 {
		return i.Names[0]
	}
	return i.ID
}

// ErrNoImage says that the store does not have an image.
var ErrNoImage = cs.ErrImageUnknown

// Image reads the image with this ID or name. The error is ErrNoImage if the store does not have the image.
func (s *Store) Image(id string) (Image, error) {
	img, err := s.storage.Image(id)
	if err != nil {
		return Image{}, fmt.Errorf("reading image %s: %w", id, err)
	}
	sum, err := s.configDigest(img)
	if err != nil {
		return Image{}, err
	}
	config, err := s.document(img, sum.String(), sum)
	if err != nil {
		return Image{}, err
	}
	return Image{ID: img.ID, TopLayer: img.TopLayer, Config: config, Names: img.Names}, nil
}

// errNoConfig says that an image has no config document.
var errNoConfig = errors.New("it has no config document (schema 1 images are not supported)")

// configDigest reads the digest of the config from the manifest of the image.
func (s *Store) configDigest(img *cs.Image) (digest.Digest, error) {
	// Not img.Digest: that is the manifest's that the image was first stored with, and stays when the same config is
	// pulled again with another manifest.
	manifest, err := s.document(img, cs.ImageDigestBigDataKey, img.BigDataDigests[cs.ImageDigestBigDataKey])
	if err != nil {
		return "", err
	}
	var m struct {
		Config struct {
			Digest digest.Digest `json:"digest"`
		} `json:"config"`
	}
	if err := json.Unmarshal(manifest, &m); err != nil {
		return "", fmt.Errorf("reading the manifest of image %s: %w", img.ID, err)
	}
	if err := m.Config.Digest.Validate(); err != nil {
		return "", fmt.Errorf("image %s: %w: %w", img.ID, errNoConfig, err)
	}
	return m.Config.Digest, nil
}

// document reads one of an image's documents and verifies its digest.
func (s *Store) document(img *cs.Image, key string, want digest.Digest) ([]byte, error) {
	size, err := s.storage.ImageBigDataSize(img.ID, key)
	if err != nil {
		return nil, fmt.Errorf("reading %s of image %s: %w", key, img.ID, err)
	}
	if size > maxConfig {
		return nil, fmt.Errorf("%s of image %s has %d bytes, more than the %d that are accepted", key, img.ID, size, maxConfig)
	}
	data, err := s.storage.ImageBigData(img.ID, key)
	if err != nil {
		return nil, fmt.Errorf("reading %s of image %s: %w", key, img.ID, err)
	}
	if want != "" && want.Validate() == nil && want.Algorithm().FromBytes(data) != want {
		return nil, fmt.Errorf("%s of image %s does not match its digest %s: remove the image and pull it again", key, img.ID, want)
	}
	return data, nil
}

// NewImage describes an image to record.
type NewImage struct {
	TopLayer string
	Config   []byte
	Manifest []byte
	Names    []string  // full references; taken from the images that have them
	Created  time.Time // as the store lists it
}

// PutImage records an image and gives it its names. The store has one record for all images with the same config: if
// there is one already it is kept, with its own layers, whose content is the same, and the manifest replaces its own.
// shared are the names of that record that the caller does not know of: they stand for the new manifest from then on.
func (s *Store) PutImage(n NewImage) (id string, shared []string, err error) {
	config, manifest := digest.FromBytes(n.Config), digest.FromBytes(n.Manifest)
	id = config.Encoded()
	old, err := s.storage.Image(id)
	if err == nil {
		err = VerifyImage(s.storage, id) // also ErrImageUnknown: removed since
	}
	if err != nil && !errors.Is(err, cs.ErrImageUnknown) {
		return "", nil, fmt.Errorf("recording image %s: %w", id, err)
	}
	switch {
	case err == nil && old.BigDataDigests[cs.ImageDigestBigDataKey] == manifest:
		return id, nil, s.nameImage(old, n.Names)
	case err == nil:
		shared := slices.DeleteFunc(slices.Clone(old.Names), func(name string) bool { return slices.Contains(n.Names, name) })
		return id, shared, errors.Join(s.replaceManifest(id, n.Manifest), s.nameImage(old, n.Names))
	}
	img, err := s.storage.CreateImage(id, nil, n.TopLayer, "", &cs.ImageOptions{
		CreationDate: n.Created,
		Digest:       manifest,
		BigData: []cs.ImageBigDataOption{
			{Key: config.String(), Data: n.Config, Digest: config},
			{Key: cs.ImageDigestManifestBigDataNamePrefix + "-" + manifest.String(), Data: n.Manifest, Digest: manifest},
			{Key: cs.ImageDigestBigDataKey, Data: n.Manifest, Digest: manifest},
		},
	})
	if errors.Is(err, cs.ErrDuplicateID) { // another build was quicker
		return s.PutImage(n)
	}
	if err != nil {
		return "", nil, fmt.Errorf("recording image %s: %w", id, err)
	}
	return id, nil, s.nameImage(img, n.Names)
}

func (s *Store) replaceManifest(id string, manifest []byte) error {
	digestOf := func([]byte) (digest.Digest, error) { return digest.FromBytes(manifest), nil }
	for _, key := range []string{
		cs.ImageDigestManifestBigDataNamePrefix + "-" + digest.FromBytes(manifest).String(), cs.ImageDigestBigDataKey,
	} {
		if err := s.storage.SetImageBigData(id, key, manifest, digestOf); err != nil {
			return fmt.Errorf("recording image %s: %w", id, err)
		}
	}
	return nil
}

// nameImage adds the names that the image does not have yet.
func (s *Store) nameImage(img *cs.Image, names []string) error {
	missing := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(img.Names, n) })
	if len(missing) == 0 {
		return nil
	}
	if err := s.storage.AddNames(img.ID, missing); err != nil {
		return fmt.Errorf("naming image %s: %w", img.ID, err)
	}
	return nil
}
