package containers

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	cs "go.podman.io/storage"

	"codeberg.org/rbuild/rbuild/internal/images"
)

// twinsOf returns the images of the store whose config document has this digest. Their manifests
// differ. The record whose ID is the digest comes first.
func twinsOf(st cs.Store, config digest.Digest) ([]cs.Image, error) {
	all, err := st.Images()
	if err != nil {
		return nil, fmt.Errorf("listing the images: %w", err)
	}

	var twins []cs.Image
	for _, img := range all {
		switch {
		case !slices.Contains(img.BigDataNames, config.String()):
		case img.ID == config.Encoded():
			twins = slices.Insert(twins, 0, img)
		default:
			twins = append(twins, img)
		}
	}

	return twins, nil
}

// byConfig finds the image whose config document has the digest, if no other image has the same
// config. The error is images.ErrSeveral if several images have the config, and ErrImageUnknown of
// the library if no image has it.
func byConfig(st cs.Store, config digest.Digest) (*cs.Image, error) {
	twins, err := twinsOf(st, config)
	switch {
	case err != nil:
		return nil, err
	case len(twins) == 0:
		return nil, cs.ErrImageUnknown
	case len(twins) > 1:
		return nil, images.ErrSeveral
	}
	return &twins[0], nil
}

// recordID returns the ID for a new record of an image. The first image with a config has the
// digest of the config as its ID, as in other stores. Another image with the same config has an ID
// that images.DerivedID makes.
func recordID(st cs.Store, config, manifest digest.Digest) (string, error) {
	img, err := st.Image(config.Encoded())
	switch {
	case errors.Is(err, cs.ErrImageUnknown):
		return config.Encoded(), nil
	case err != nil:
		return "", fmt.Errorf("looking up image %s: %w", config.Encoded(), err)
	case img.ID != config.Encoded(): // a name that looks like an ID
		return config.Encoded(), nil
	}
	return images.DerivedID(config, manifest), nil
}

// configDigest returns the digest of an image's config from the image's manifest.
func configDigest(st cs.Store, img *cs.Image) (digest.Digest, error) {
	own := digest.NewDigestFromEncoded(digest.SHA256, img.ID)
	if slices.Contains(img.BigDataNames, own.String()) {
		return own, nil
	}

	manifest, err := st.ImageBigData(img.ID, cs.ImageDigestBigDataKey)
	if err != nil {
		return "", fmt.Errorf("reading the manifest of image %s: %w", img.ID, err)
	}

	var m struct {
		Config struct {
			Digest digest.Digest `json:"digest"`
		} `json:"config"`
	}

	if err := json.Unmarshal(manifest, &m); err != nil {
		return "", fmt.Errorf("reading the manifest of image %s: %w", img.ID, err)
	}
	return m.Config.Digest, m.Config.Digest.Validate()
}

// sharedTop is the topmost layer for a new record of an image whose topmost layer is top: a twin's,
// if the content of the twin's layers is the same, else top.
func sharedTop(st cs.Store, twins []cs.Image, top string) string {
	for _, img := range twins {
		if img.TopLayer != top && sameLayers(st, img.TopLayer, top) {
			return img.TopLayer
		}
	}
	return top
}

// sameLayers reports whether two stacks of layers, topmost given, have the same content. Layers
// that cannot be read have not.
func sameLayers(st cs.Store, a, b string) bool {
	for a != b {
		if a == "" || b == "" {
			return false
		}

		one, err := st.Layer(a)
		if err != nil {
			return false
		}

		other, err := st.Layer(b)
		if err != nil || one.UncompressedDigest == "" || one.UncompressedDigest != other.UncompressedDigest {
			return false
		}
		a, b = one.Parent, other.Parent
	}

	return true
}

// isCompressionNote reports whether a compression adds this annotation to a layer.
func isCompressionNote(key string) bool {
	return slices.ContainsFunc(images.Compressions(), func(c images.Compression) bool {
		return !c.Plain() && strings.HasPrefix(key, c.Annotations)
	})
}

// sameButCompression reports whether two manifests say the same, whatever the compression of the
// layers is.
func sameButCompression(a, b []byte) bool {
	one, ok := uncompressed(a)
	if !ok {
		return false
	}
	other, ok := uncompressed(b)
	return ok && reflect.DeepEqual(one, other)
}

// uncompressed reads a manifest and removes the fields that depend on compression: digests, sizes
// and media types of layers.
func uncompressed(manifest []byte) (m map[string]any, ok bool) {
	if json.Unmarshal(manifest, &m) != nil {
		return nil, false
	}

	layers, ok := m["layers"].([]any)
	if !ok {
		return nil, false
	}

	for _, l := range layers {
		layer, ok := l.(map[string]any)
		if !ok {
			return nil, false
		}

		delete(layer, "digest")
		delete(layer, "size")
		mediaType, _ := layer["mediaType"].(string)
		layer["mediaType"] = images.TrimCompression(mediaType)
		notes, _ := layer["annotations"].(map[string]any)
		for key := range notes {
			if isCompressionNote(key) {
				delete(notes, key)
			}
		}

		if len(notes) == 0 {
			delete(layer, "annotations")
		}
	}

	return m, true
}
