package containers

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	cs "go.podman.io/storage"

	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// maxConfig bounds the config and manifest documents that are read into memory, in bytes.
const maxConfig = 8 << 20

// ImageStore is the part of a [Store] that keeps images. The methods may be called from several
// goroutines.
type ImageStore struct{ layers *LayerStore }

// Image describes an image of the store for a build.
type Image struct {
	ID           string            // of the record; see recordID
	ConfigDigest digest.Digest     // of the config document
	TopLayer     string            // ID of the topmost layer; "": an image without layers
	Config       []byte            // the config document, as stored; its digest is verified
	Annotations  map[string]string // of the manifest; nil: it has none
	Names        []string
}

// name returns the name of the image in messages: its first name, or its ID.
func (i Image) name() string {
	if len(i.Names) > 0 {
		return i.Names[0]
	}
	return i.ID
}

// ErrNoImage says that the store does not have an image.
var ErrNoImage = cs.ErrImageUnknown

// Image reads the image with this ID or name. The error is ErrNoImage if the store does not have
// the image.
func (s ImageStore) Image(id string) (Image, error) {
	img, err := s.layers.storage.Image(id)
	if err != nil {
		return Image{}, fmt.Errorf("reading image %s: %w", id, err)
	}

	m, _, err := s.manifest(img)
	if err != nil {
		return Image{}, err
	}

	config, err := s.document(img, m.Config.Digest.String(), m.Config.Digest)
	if err != nil {
		return Image{}, err
	}
	return Image{
		ID: img.ID, ConfigDigest: m.Config.Digest, TopLayer: img.TopLayer, Config: config, Annotations: m.Annotations, Names: img.Names,
	}, nil
}

// errNoConfig says that an image has no config document.
var errNoConfig = errors.New("it has no config document (schema 1 images are not supported)")

// manifest reads the manifest of an image. The digest of the config in the manifest is valid.
func (s ImageStore) manifest(img *cs.Image) (m ocispec.Manifest, data []byte, err error) {
	// img.Digest is the digest of the manifest with which the image was first stored, maybe of
	// another manifest.
	data, err = s.document(img, cs.ImageDigestBigDataKey, img.BigDataDigests[cs.ImageDigestBigDataKey])
	if err != nil {
		return m, nil, err
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, nil, fmt.Errorf("reading the manifest of image %s: %w", img.ID, err)
	}
	if err := m.Config.Digest.Validate(); err != nil {
		return m, nil, fmt.Errorf("image %s: %w: %w", img.ID, errNoConfig, err)
	}
	return m, data, nil
}

// document reads a document of an image and verifies its digest.
func (s ImageStore) document(img *cs.Image, key string, want digest.Digest) ([]byte, error) {
	size, err := s.layers.storage.ImageBigDataSize(img.ID, key)
	if err != nil {
		return nil, fmt.Errorf("reading %s of image %s: %w", key, img.ID, err)
	}
	if size > maxConfig {
		return nil, fmt.Errorf("%s of image %s has %d bytes, more than the %d that are accepted", key, img.ID, size, maxConfig)
	}

	data, err := s.layers.storage.ImageBigData(img.ID, key)
	if err != nil {
		return nil, fmt.Errorf("reading %s of image %s: %w", key, img.ID, err)
	}
	if want != "" && want.Validate() == nil && want.Algorithm().FromBytes(data) != want {
		return nil, fmt.Errorf("%s of image %s does not match its digest %s: remove the image and pull it again", key, img.ID, want)
	}
	return data, nil
}

// PutImage implements [images.Store].
//
// Images with different manifests have different records, even if their config is the same: the
// manifest of an existing record never changes. Two manifests that differ only in the compression
// of layers count as the same manifest. So a build that reproduces a pulled image gives the pulled
// image, with the pulled manifest.
//
// A record shares the layers of an older record with the same config, if their content is the same.
func (s ImageStore) PutImage(n commit.Documents) (id string, manifest []byte, err error) {
	for range putTries {
		id, manifest, err = s.putImage(n)
		if !errors.Is(err, cs.ErrDuplicateID) { // else another process was quicker
			break
		}
	}
	if err == nil {
		err = s.keepNames(id, n.TopLayer)
	}
	return id, manifest, err
}

// putTries bounds the attempts of PutImage while other processes record images with the same
// config.
const putTries = 5

func (s ImageStore) putImage(n commit.Documents) (id string, manifest []byte, err error) {
	config, sum := digest.FromBytes(n.Config), digest.FromBytes(n.Manifest)
	twins, err := twinsOf(s.layers.storage, config)
	if err != nil {
		return "", nil, err
	}

	old, manifest, err := s.sameImage(twins, n)
	if err != nil {
		return "", nil, err
	}
	if old != nil {
		if err := verifyImage(s.layers.storage, old.ID); err != nil {
			return "", nil, fmt.Errorf("recording image %s: %w", old.ID, err)
		}
		return old.ID, manifest, s.nameImage(old, n.Names)
	}

	id, err = recordID(s.layers.storage, config, sum)
	if err != nil {
		return "", nil, err
	}

	img, err := s.layers.storage.CreateImage(id, nil, sharedTop(s.layers.storage, twins, n.TopLayer), "", &cs.ImageOptions{
		CreationDate: n.Created,
		Digest:       sum,
		BigData: []cs.ImageBigDataOption{
			{Key: config.String(), Data: n.Config, Digest: config},
			{Key: cs.ImageDigestManifestBigDataNamePrefix + "-" + sum.String(), Data: n.Manifest, Digest: sum},
			{Key: cs.ImageDigestBigDataKey, Data: n.Manifest, Digest: sum},
		},
	})
	if err != nil {
		return "", nil, fmt.Errorf("recording image %s: %w", id, err)
	}

	return id, n.Manifest, s.nameImage(img, n.Names)
}

// sameImage returns the record of the image among the images with the same config, or nil.
func (s ImageStore) sameImage(twins []cs.Image, n commit.Documents) (*cs.Image, []byte, error) {
	sum := digest.FromBytes(n.Manifest)
	for i := range twins {
		if twins[i].BigDataDigests[cs.ImageDigestBigDataKey] == sum {
			return &twins[i], n.Manifest, nil
		}
	}

	for i, img := range twins {
		if _, ok := img.BigDataDigests[cs.ImageDigestBigDataKey]; !ok {
			continue
		}
		manifest, err := s.document(&img, cs.ImageDigestBigDataKey, img.BigDataDigests[cs.ImageDigestBigDataKey])
		if err != nil {
			return nil, nil, err
		}
		if sameButCompression(manifest, n.Manifest) && sameLayers(s.layers.storage, img.TopLayer, n.TopLayer) {
			return &twins[i], manifest, nil
		}
	}

	return nil, nil, nil
}

// nameImage adds the names that the image does not have yet.
func (s ImageStore) nameImage(img *cs.Image, names []string) error {
	missing := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(img.Names, n) })
	if len(missing) == 0 {
		return nil
	}
	if err := s.layers.storage.AddNames(img.ID, missing); err != nil {
		return fmt.Errorf("naming image %s: %w", img.ID, err)
	}
	return nil
}

// NameImage implements [images.Store].
func (s ImageStore) NameImage(id string, names []string) (manifest []byte, err error) {
	img, err := s.layers.storage.Image(id)
	if err != nil {
		return nil, fmt.Errorf("reading image %s: %w", id, err)
	}
	manifest, err = s.document(img, cs.ImageDigestBigDataKey, img.BigDataDigests[cs.ImageDigestBigDataKey])
	if err != nil {
		return nil, err
	}
	return manifest, s.nameImage(img, names)
}
