package containers

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	cs "go.podman.io/storage"
)

// Twins are the images of the store whose config document has this digest. Their manifests differ. The record whose ID is
// the digest comes first.
func Twins(st cs.Store, config digest.Digest) ([]cs.Image, error) {
	images, err := st.Images()
	if err != nil {
		return nil, fmt.Errorf("listing the images: %w", err)
	}

	var twins []cs.Image
	for _, img := range images {
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

// ErrSeveral says that several images have the config by whose digest an image was looked for.
var ErrSeveral = errors.New("several images of the store have this config: use the ID or the name of the image")

// ByConfig finds the image whose config document has the digest, if no other image has the same config. The error wraps
// ErrSeveral if there are more, and ErrImageUnknown of the library if there is none.
func ByConfig(st cs.Store, config digest.Digest) (*cs.Image, error) {
	twins, err := Twins(st, config)
	switch {
	case err != nil:
		return nil, err
	case len(twins) == 0:
		return nil, cs.ErrImageUnknown
	case len(twins) > 1:
		return nil, ErrSeveral
	}
	return &twins[0], nil
}

// RecordID is the ID for a new record of an image. The first image with a config has the digest of the config as its ID,
// as images have it everywhere. Another image with the same config has an ID that DerivedID makes.
func RecordID(st cs.Store, config, manifest digest.Digest) (string, error) {
	img, err := st.Image(config.Encoded())
	switch {
	case errors.Is(err, cs.ErrImageUnknown):
		return config.Encoded(), nil
	case err != nil:
		return "", fmt.Errorf("looking up image %s: %w", config.Encoded(), err)
	case img.ID != config.Encoded(): // a name that looks like an ID
		return config.Encoded(), nil
	}
	return DerivedID(config, manifest), nil
}

// DerivedID is the ID of an image if another image with the same config has the digest of the config as its ID: 64
// hexadecimal digits that follow from both documents, so that the same image always has the same ID.
func DerivedID(config, manifest digest.Digest) string {
	sum := sha256.Sum256([]byte("rbuild-image\n" + config.String() + "\n" + manifest.String() + "\n"))
	return hex.EncodeToString(sum[:])
}

// ConfigDigest is the digest of an image's config, as the image's manifest has it.
func ConfigDigest(st cs.Store, img *cs.Image) (digest.Digest, error) {
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

// SharedTop is the topmost layer for a new record of an image whose topmost layer is top: a twin's, if the content of the
// twin's layers is the same, else top.
func SharedTop(st cs.Store, twins []cs.Image, top string) string {
	for _, img := range twins {
		if img.TopLayer != top && SameLayers(st, img.TopLayer, top) {
			return img.TopLayer
		}
	}
	return top
}

// SameLayers reports whether two stacks of layers, topmost given, have the same content. Layers that cannot be read have
// not.
func SameLayers(st cs.Store, a, b string) bool {
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

// chunkedNotes is the prefix of the annotations that the compression zstd:chunked adds to a layer.
const chunkedNotes = "io.github.containers.zstd-chunked."

// sameButCompression reports whether two manifests say the same, whatever the compression of the layers is.
func sameButCompression(a, b []byte) bool {
	one, ok := uncompressed(a)
	if !ok {
		return false
	}
	other, ok := uncompressed(b)
	return ok && reflect.DeepEqual(one, other)
}

// uncompressed reads a manifest and removes the fields that depend on compression: digests, sizes and media types of layers.
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
		for _, ending := range []string{"+gzip", "+zstd", ".gzip", ".zstd"} {
			mediaType = strings.TrimSuffix(mediaType, ending)
		}
		layer["mediaType"] = mediaType
		notes, _ := layer["annotations"].(map[string]any)
		for key := range notes {
			if strings.HasPrefix(key, chunkedNotes) {
				delete(notes, key)
			}
		}

		if len(notes) == 0 {
			delete(layer, "annotations")
		}
	}

	return m, true
}
