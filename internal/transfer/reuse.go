package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/pkg/compression"
	"go.podman.io/image/v5/types"
	cs "go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"

	"codeberg.org/rbuild/rbuild/internal/bounded"
)

// The store keeps layers uncompressed and registries keep them compressed, so
// what a layer is called there cannot be told from the layer without
// compressing it. Therefore the digests of its compressed forms, as they were
// pulled or pushed, are kept beside the layer, and a push asks the registry for
// those first. (The library has a database for this, which needs cgo.)

const (
	knownBlobsKey = "rbuild-compressed"
	maxKnownBlobs = 8 // forms of a layer: two algorithms, few levels
	maxKnownBytes = 1 << 16
)

// A knownBlob is a compressed form of a layer. Only what this machine has
// compressed or decompressed itself is recorded, so that the two certainly
// belong together.
type knownBlob struct {
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"` // bytes
	Algorithm string        `json:"algorithm"`
}

// recordBlob adds a form to those that are known of a layer. The record saves
// work and nothing else, so that failing to write it is no error.
func recordBlob(st cs.Store, layer string, blob knownBlob) {
	known := knownBlobs(st, layer)
	if slices.Contains(known, blob) {
		return
	}

	known = append([]knownBlob{blob}, known[:min(len(known), maxKnownBlobs-1)]...)
	data, err := json.Marshal(known)
	if err == nil {
		err = st.SetLayerBigData(layer, knownBlobsKey, bytes.NewReader(data))
	}
	if err != nil {
		logrus.Debugf("Recording that layer %s is blob %s: %v", layer, blob.Digest, err)
	}
}

// knownBlobs are the forms recorded for a layer, by this program or by the
// library when podman or buildah pulled it.
func knownBlobs(st cs.Store, layer string) []knownBlob {
	var known []knownBlob
	if r, err := st.LayerBigData(layer, knownBlobsKey); err == nil {
		data, err := bounded.ReadAll(r, maxKnownBytes, "the record")
		if err := errors.Join(err, r.Close(), json.Unmarshal(data, &known)); err != nil {
			logrus.Debugf("Reading what layer %s is called in registries: %v", layer, err)
			known = nil
		}
	}

	l, err := st.Layer(layer)
	if err == nil && l.CompressedDigest != "" && l.CompressedSize > 0 {
		if algorithm := algorithmName(l.CompressionType); algorithm != "" {
			known = append(known, knownBlob{Digest: l.CompressedDigest, Size: l.CompressedSize, Algorithm: algorithm})
		}
	}

	return slices.DeleteFunc(known, func(b knownBlob) bool { return b.Digest.Validate() != nil || b.Size <= 0 })
}

// algorithmName is the name of those compressions that registries use.
func algorithmName(c archive.Compression) string {
	return map[archive.Compression]string{archive.Gzip: compression.Gzip.Name(), archive.Zstd: compression.Zstd.Name()}[c]
}

// recordPushed notes what the layers of an image, topmost given, are called in
// the manifest that was pushed. Manifests of schema 1 do not tell.
func recordPushed(st cs.Store, top string, raw []byte) error {
	m, err := manifest.FromBlob(raw, manifest.GuessMIMEType(raw))
	if err != nil {
		return fmt.Errorf("reading the pushed manifest: %w", err)
	}

	blobs := m.LayerInfos()
	id := top
	for i := len(blobs) - 1; i >= 0 && id != ""; i-- {
		layer, err := st.Layer(id)
		if err != nil {
			return fmt.Errorf("reading layer %s: %w", id, err)
		}
		if algorithm := mediaTypeAlgorithm(blobs[i]); algorithm != "" && blobs[i].Digest != layer.UncompressedDigest {
			recordBlob(st, id, knownBlob{Digest: blobs[i].Digest, Size: blobs[i].Size, Algorithm: algorithm})
		}
		id = layer.Parent
	}

	return nil
}

func mediaTypeAlgorithm(info manifest.LayerInfo) string {
	switch {
	case len(info.Annotations) > 0: // zstd:chunked, and whatever else is more than its bytes
		return ""
	case strings.HasSuffix(info.MediaType, "gzip"):
		return compression.Gzip.Name()
	case strings.HasSuffix(info.MediaType, "zstd"):
		return compression.Zstd.Name()
	}
	return ""
}

// reusingReference is a destination in a registry that is asked for the known
// forms of a layer before it is sent another.
type reusingReference struct {
	types.ImageReference
	st      cs.Store
	allowed []string // names of the compressions that the manifest can have and that are wanted
}

// allowedForms are the compressions of layers that may be reused for a push of an image whose manifest has this media type.
func (o PushOptions) allowedForms(mediaType string) []string {
	switch {
	case strings.HasPrefix(mediaType, "application/vnd.docker."): // has no media type for zstd
		return []string{compression.Gzip.Name()}
	case o.AnyCompression || o.CompressionFormat == "" && o.CompressionLevel == nil:
		return []string{compression.Gzip.Name(), compression.Zstd.Name()}
	case o.CompressionFormat == "":
		return []string{compression.Gzip.Name()}
	}
	return []string{o.CompressionFormat}
}

// NewImageDestination wraps the destination of the reference.
func (r reusingReference) NewImageDestination(ctx context.Context, sys *types.SystemContext) (types.ImageDestination, error) {
	dest, err := r.ImageReference.NewImageDestination(ctx, sys)
	if err != nil {
		return nil, err
	}
	return &reusingDestination{ImageDestination: dest, st: r.st, allowed: r.allowed}, nil
}

type reusingDestination struct {
	types.ImageDestination
	st      cs.Store
	allowed []string
}

// TryReusingBlob is asked for a layer by its uncompressed digest.
func (d *reusingDestination) TryReusingBlob(ctx context.Context, info types.BlobInfo, cache types.BlobInfoCache, substitute bool) (bool, types.BlobInfo, error) {
	if substitute {
		layers, err := d.st.LayersByUncompressedDigest(info.Digest)
		if err != nil && !errors.Is(err, cs.ErrLayerUnknown) {
			return false, types.BlobInfo{}, fmt.Errorf("looking up layer %s: %w", info.Digest, err)
		}
		for _, layer := range layers {
			for _, blob := range knownBlobs(d.st, layer.ID) {
				algorithm, known := algorithms()[blob.Algorithm]
				if !known || !slices.Contains(d.allowed, blob.Algorithm) {
					continue
				}
				reused, got, err := d.tryBlob(ctx, blob, algorithm, cache)
				if reused || err != nil {
					return reused, got, err
				}
			}
		}
	}

	return d.ImageDestination.TryReusingBlob(ctx, info, cache, substitute)
}

// algorithms are those that a record can name.
func algorithms() map[string]compression.Algorithm {
	return map[string]compression.Algorithm{compression.Gzip.Name(): compression.Gzip, compression.Zstd.Name(): compression.Zstd}
}

func (d *reusingDestination) tryBlob(ctx context.Context, blob knownBlob, algorithm compression.Algorithm, cache types.BlobInfoCache) (bool, types.BlobInfo, error) {
	reused, got, err := d.ImageDestination.TryReusingBlob(ctx, types.BlobInfo{Digest: blob.Digest, Size: blob.Size}, cache, false)
	if !reused || err != nil {
		return false, types.BlobInfo{}, err
	}
	got.CompressionOperation, got.CompressionAlgorithm = types.Compress, &algorithm
	return true, got, nil
}
