package containers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/pkg/compression"
	"go.podman.io/image/v5/types"
	cs "go.podman.io/storage"

	"codeberg.org/rbuild/rbuild/internal/bounded"
	"codeberg.org/rbuild/rbuild/internal/images"
)

// The store keeps layers uncompressed and registries keep them compressed, so that the digest of a
// layer in a registry is not known before the layer is compressed. Therefore the store keeps,
// beside a layer, the digests of the compressed forms that were pulled or pushed, and a push asks
// the registry for these forms first. (The library has a database for this, which needs cgo.)

const (
	knownBlobsKey = "rbuild-compressed" // of an item of a layer's data: a JSON list of knownBlob
	maxKnownBlobs = 8                   // forms of a layer: two algorithms, few levels
	maxKnownBytes = 1 << 16
)

// A knownBlob is a compressed form of a layer. Only forms that this machine has compressed or
// decompressed itself are recorded, so that the form and the layer certainly have the same content.
type knownBlob struct {
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"` // bytes
	Algorithm string        `json:"algorithm"`
}

// recordBlob adds a form to the known forms of a layer. The record only saves work, so that an
// error is not reported.
func recordBlob(lib cs.Store, layer string, blob knownBlob) {
	known := knownBlobs(lib, layer)
	if slices.Contains(known, blob) {
		return
	}

	known = append([]knownBlob{blob}, known[:min(len(known), maxKnownBlobs-1)]...)
	data, err := json.Marshal(known)
	if err != nil {
		logrus.Debugf("Recording that layer %s is blob %s: %v", layer, blob.Digest, err)
		return
	}
	if err := lib.SetLayerBigData(layer, knownBlobsKey, bytes.NewReader(data)); err != nil {
		logrus.Debugf("Recording that layer %s is blob %s: %v", layer, blob.Digest, err)
	}
}

// knownBlobs returns the forms of a layer that this program recorded, and the form that the library
// recorded when podman or buildah pulled the layer.
func knownBlobs(lib cs.Store, layer string) []knownBlob {
	known := recordedBlobs(lib, layer)
	l, err := lib.Layer(layer)
	if err == nil && l.CompressedDigest != "" && l.CompressedSize > 0 {
		if c, ok := images.CompressionOfArchive(l.CompressionType); ok {
			known = append(known, knownBlob{Digest: l.CompressedDigest, Size: l.CompressedSize, Algorithm: c.Algorithm.Name()})
		}
	}
	return slices.DeleteFunc(known, func(b knownBlob) bool { return b.Digest.Validate() != nil || b.Size <= 0 })
}

// recordedBlobs reads the item of a layer's data; nil: there is none, or it cannot be read.
func recordedBlobs(lib cs.Store, layer string) (known []knownBlob) {
	r, err := lib.LayerBigData(layer, knownBlobsKey)
	if err != nil {
		return nil
	}

	data, err := bounded.ReadAll(r, maxKnownBytes, "the record")
	if err := errors.Join(err, r.Close(), json.Unmarshal(data, &known)); err != nil {
		logrus.Debugf("Reading the compressed forms of layer %s: %v", layer, err)
		return nil
	}
	return known
}

// recordPushed records the forms that the layers of an image, topmost given, have in the manifest
// that was pushed. Manifests of schema 1 do not say it.
func recordPushed(lib cs.Store, top string, raw []byte) error {
	m, err := manifest.FromBlob(raw, manifest.GuessMIMEType(raw))
	if err != nil {
		return fmt.Errorf("reading the pushed manifest: %w", err)
	}

	id := top
	for _, blob := range slices.Backward(m.LayerInfos()) {
		if id == "" {
			break
		}
		layer, err := lib.Layer(id)
		if err != nil {
			return fmt.Errorf("reading layer %s: %w", id, err)
		}
		if c, ok := images.CompressionOfLayer(blob); ok && blob.Digest != layer.UncompressedDigest {
			recordBlob(lib, id, knownBlob{Digest: blob.Digest, Size: blob.Size, Algorithm: c.Algorithm.Name()})
		}
		id = layer.Parent
	}
	return nil
}

// reusingReference is a destination in a registry that is asked for the known forms of a layer
// before another form is sent.
type reusingReference struct {
	types.ImageReference
	lib     cs.Store
	allowed []string // names of compressions that the push may use
}

// NewImageDestination wraps the destination of the reference.
func (r reusingReference) NewImageDestination(ctx context.Context, sys *types.SystemContext) (types.ImageDestination, error) {
	dest, err := r.ImageReference.NewImageDestination(ctx, sys)
	if err != nil {
		return nil, err
	}
	return &reusingDestination{ImageDestination: dest, lib: r.lib, allowed: r.allowed}, nil
}

type reusingDestination struct {
	types.ImageDestination
	lib     cs.Store
	allowed []string
}

// TryReusingBlob is asked for a layer by its uncompressed digest.
func (d *reusingDestination) TryReusingBlob(
	ctx context.Context, info types.BlobInfo, cache types.BlobInfoCache, substitute bool,
) (bool, types.BlobInfo, error) {
	if !substitute {
		return d.ImageDestination.TryReusingBlob(ctx, info, cache, substitute)
	}

	layers, err := d.lib.LayersByUncompressedDigest(info.Digest)
	if err != nil && !errors.Is(err, cs.ErrLayerUnknown) {
		return false, types.BlobInfo{}, fmt.Errorf("looking up layer %s: %w", info.Digest, err)
	}

	for _, layer := range layers {
		for _, blob := range knownBlobs(d.lib, layer.ID) {
			c, err := images.CompressionByName(blob.Algorithm)
			if err != nil || !c.Plain() || !slices.Contains(d.allowed, blob.Algorithm) {
				continue
			}
			reused, got, err := d.tryBlob(ctx, blob, c.Algorithm, cache)
			if reused || err != nil {
				return reused, got, err
			}
		}
	}

	return d.ImageDestination.TryReusingBlob(ctx, info, cache, substitute)
}

func (d *reusingDestination) tryBlob(
	ctx context.Context, blob knownBlob, algorithm compression.Algorithm, cache types.BlobInfoCache,
) (bool, types.BlobInfo, error) {
	reused, got, err := d.ImageDestination.TryReusingBlob(ctx, types.BlobInfo{Digest: blob.Digest, Size: blob.Size}, cache, false)
	if !reused || err != nil {
		return false, types.BlobInfo{}, err
	}
	got.CompressionOperation = types.Compress
	got.CompressionAlgorithm = &algorithm
	return true, got, nil
}
