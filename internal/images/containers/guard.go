package containers

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
	"go.podman.io/image/v5/manifest"
	cs "go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"

	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/images/layercheck"
)

// guardedStore stands between the library's copy and the store. The copy verifies the digests of
// blobs, the guard verifies their content. Every layer passes through PutLayer as a stream that is
// decompressed for unpacking anyway, so that the check costs a parse of the headers and one copy of
// the bytes.
type guardedStore struct {
	cs.Store
	ctx  context.Context //nolint:containedctx // cs.Store's calls take none, and a pull must be stoppable while it unpacks
	want string          // OS/ARCH that the image should be for

	owner func(uid, gid int) error // of images.Incoming

	mu   sync.Mutex
	seen map[string]knownBlob // the blobs of the layers that were put, by the ID of the layer

	image     string          // ID of the image that CreateImage gave last
	manifests []digest.Digest // of the image: its own, and the list that it was chosen from
	created   map[string]bool // the images that this guard has created, by ID
}

func guard(ctx context.Context, lib cs.Store, in images.Incoming) *guardedStore {
	return &guardedStore{
		Store:   lib,
		ctx:     ctx,
		want:    in.Platform.OS + "/" + in.Platform.Architecture,
		owner:   in.Owner,
		seen:    make(map[string]knownBlob),
		created: make(map[string]bool),
	}
}

// PutLayer refuses a layer that package layercheck refuses. The library deletes the files that were
// unpacked until then.
func (g *guardedStore) PutLayer(
	id, parent string, names []string, mountLabel string, writeable bool, lo *cs.LayerOptions, diff io.Reader,
) (*cs.Layer, int64, error) {
	if diff == nil {
		return g.Store.PutLayer(id, parent, names, mountLabel, writeable, lo, nil)
	}
	options, stored := sizedOptions(lo, diff)

	head := bufio.NewReader(diff)
	magic, _ := head.Peek(16) // DecompressStream reports an error of the stream
	format := archive.DetectCompression(magic)
	plain, err := archive.DecompressStream(head)
	if err != nil {
		return nil, -1, fmt.Errorf("decompressing the layer: %w", err)
	}
	defer plain.Close()

	checked := layercheck.NewReader(g.ctx, plain, stored, g.owner)
	layer, size, err := g.Store.PutLayer(id, parent, names, mountLabel, writeable, &options, checked)
	_ = checked.Close() // documented to return nil always
	shown := cmp.Or(options.OriginalDigest, digest.Digest(id))
	if err != nil {
		return layer, size, checked.Cause(err, shown)
	}
	if err := leaveOutDevices(g.Store, layer.ID, shown.String(), checked.Devices()); err != nil {
		return layer, size, errors.Join(err, g.DeleteLayer(layer.ID))
	}

	if options.OriginalSize != nil {
		g.remember(layer.ID, knownBlob{Digest: options.OriginalDigest, Size: *options.OriginalSize}, format)
	}
	return layer, size, nil
}

// sizedOptions returns the options of a layer with the size of the layer before decompression.
// stored is this size in bytes; 0: it is not known.
func sizedOptions(lo *cs.LayerOptions, diff io.Reader) (options cs.LayerOptions, stored int64) {
	if lo != nil {
		options = *lo
	}
	if options.OriginalSize != nil {
		stored = *options.OriginalSize
	}

	file, ok := diff.(*os.File)
	if !ok {
		return options, stored
	}
	info, err := file.Stat()
	if err != nil {
		return options, stored
	}

	stored = info.Size()
	// The store sees the stream decompressed and does not know the size.
	if stored > 0 && options.OriginalSize == nil && options.OriginalDigest != "" {
		options.OriginalSize = &stored
	}
	return options, stored
}

// remember records the compressed form of a layer, for checkSize and for later pushes.
func (g *guardedStore) remember(layer string, blob knownBlob, format archive.Compression) {
	g.mu.Lock()
	g.seen[layer] = blob
	g.mu.Unlock()

	if c, ok := images.CompressionOfArchive(format); ok {
		blob.Algorithm = c.Algorithm.Name()
		recordBlob(g.Store, layer, blob)
	}
}

// PullOptions turns partial pulls off, because they write layers that never pass as a tar stream.
func (g *guardedStore) PullOptions() map[string]string {
	options := maps.Clone(g.Store.PullOptions())
	if options == nil {
		options = make(map[string]string)
	}
	options["enable_partial_images"] = "false"
	options["convert_images"] = "false"
	return options
}

// LookupAdditionalLayer finds no layer, for the reason of PullOptions.
func (g *guardedStore) LookupAdditionalLayer(digest.Digest, string) (cs.AdditionalLayer, error) {
	return nil, cs.ErrLayerUnknown
}

// LookupAdditionalLayerByID finds no layer, for the reason of PullOptions.
func (g *guardedStore) LookupAdditionalLayerByID(string) (cs.AdditionalLayer, error) {
	return nil, cs.ErrLayerUnknown
}

// checkImage compares the config's diff_ids and the manifest's sizes with the layers of a new
// image.
func (g *guardedStore) checkImage(top string, data []cs.ImageBigDataOption) error {
	blobs := make(map[string][]byte, len(data))
	for _, item := range data {
		blobs[item.Key] = item.Data
	}
	raw, ok := blobs[cs.ImageDigestBigDataKey]
	if !ok {
		return nil
	}

	m, err := manifest.FromBlob(raw, manifest.GuessMIMEType(raw))
	if err != nil {
		return fmt.Errorf("reading the manifest: %w", err)
	}

	config := m.ConfigInfo()
	rawConfig, ok := blobs[config.Digest.String()]
	if !ok {
		return nil // manifests of schema 1 have no config
	}
	if config.Size != int64(len(rawConfig)) {
		return fmt.Errorf("the manifest gives the config the size %d, it has %d bytes", config.Size, len(rawConfig))
	}

	var described ocispec.Image
	if err := json.Unmarshal(rawConfig, &described); err != nil {
		return fmt.Errorf("reading the config of the image: %w", err)
	}

	is := described.OS + "/" + described.Architecture
	if described.OS != "" && described.Architecture != "" && is != g.want {
		// Not refused: the config of an image without a list of manifests is often wrong, and COPY
		// --from works with any platform.
		logrus.Warnf("the image is for %s, its programs may not run on %s", is, g.want)
	}

	return g.checkLayers(top, described.RootFS.DiffIDs, m.LayerInfos())
}

// checkLayers walks down the layers and the two lists of them.
func (g *guardedStore) checkLayers(top string, claimed []digest.Digest, blobs []manifest.LayerInfo) error {
	if len(claimed) != len(blobs) {
		return fmt.Errorf("the config of the image lists %d layers, the manifest %d", len(claimed), len(blobs))
	}

	id := top
	for i, diffID := range slices.Backward(claimed) {
		layer, err := g.Layer(id)
		if err != nil {
			return fmt.Errorf("reading layer %d of the image: %w", i+1, err)
		}

		// Another tool pulled a layer without a digest in parts, and verified the layer's table of
		// contents instead.
		if got := layer.UncompressedDigest; got != "" && got != diffID {
			return fmt.Errorf("layer %d has the digest %s, the config of the image says %s", i+1, got, diffID)
		}
		if err := g.checkSize(id, blobs[i]); err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
		id = layer.Parent
	}

	if id != "" {
		return fmt.Errorf("the config of the image lists %d layers, it has more", len(claimed))
	}

	return nil
}

func (g *guardedStore) checkSize(id string, blob manifest.LayerInfo) error {
	if blob.Size < 0 {
		return fmt.Errorf("the manifest gives it the size %d", blob.Size)
	}
	g.mu.Lock()
	defer g.mu.Unlock()

	// The library may have put a copy of another layer with the same content. That copy is not the
	// blob of the manifest.
	if seen, ok := g.seen[id]; ok && seen.Digest == blob.Digest && seen.Size != blob.Size {
		return fmt.Errorf("the manifest gives it the size %d, it has %d bytes", blob.Size, seen.Size)
	}
	return nil
}
