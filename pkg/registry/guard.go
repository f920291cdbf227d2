package registry

import (
	"archive/tar"
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
	"go.podman.io/image/v5/manifest"
	cs "go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"

	"codeberg.org/rbuild/rbuild/pkg/store"
)

// guardedStore stands between the library's copy and the store. The copy
// verifies digests of blobs; this verifies what is in them. Every layer passes
// through PutLayer as a stream that is already decompressed once for
// unpacking, so looking at its headers on the way costs a parse of the headers
// and one copy of the bytes.
type guardedStore struct {
	cs.Store
	ctx  context.Context //nolint:containedctx // cs.Store's calls take none, and a pull must be stoppable while it unpacks
	want string          // OS/ARCH that the image should be for

	owner func(uid, gid int) error // of Options

	mu   sync.Mutex
	seen map[string]int64 // compressed size of the layers that were put, by ID

	twin *cs.Image // as the store has it, with the top layer of the image that was to be created in its place; nil: none
}

func guard(ctx context.Context, st cs.Store, o Options) cs.Store {
	want := cmp.Or(o.Platform.OS, runtime.GOOS) + "/" + cmp.Or(o.Platform.Architecture, runtime.GOARCH)
	return &guardedStore{Store: st, ctx: ctx, want: want, owner: o.Owner, seen: make(map[string]int64)}
}

// PutLayer refuses a layer that checkLayer refuses. The library deletes what
// was unpacked of it.
func (g *guardedStore) PutLayer(id, parent string, names []string, mountLabel string, writeable bool, lo *cs.LayerOptions, diff io.Reader) (*cs.Layer, int64, error) {
	if diff == nil {
		return g.Store.PutLayer(id, parent, names, mountLabel, writeable, lo, nil)
	}
	options := cs.LayerOptions{}
	if lo != nil {
		options = *lo
	}
	if file, ok := diff.(*os.File); ok && options.OriginalSize == nil && options.OriginalDigest != "" {
		// The store sees the stream decompressed and could not tell.
		if info, err := file.Stat(); err == nil {
			size := info.Size()
			options.OriginalSize = &size
		}
	}
	head := bufio.NewReader(diff)
	magic, _ := head.Peek(16) // a shorter layer, or an error, DecompressStream sees too
	format := archive.DetectCompression(magic)
	plain, err := archive.DecompressStream(head)
	if err != nil {
		return nil, -1, fmt.Errorf("decompressing the layer: %w", err)
	}
	checked := newCheckedReader(g.ctx, plain, g.owner)
	layer, size, err := g.Store.PutLayer(id, parent, names, mountLabel, writeable, &options, checked)
	checked.Close()
	if refused := (*OwnerError)(nil); err != nil && errors.As(checked.judged(), &refused) { // the library may have met it first
		refused.Layer = cmp.Or(options.OriginalDigest, digest.Digest(id))
		err = refused
	}
	_ = plain.Close() // what it read has been judged by then
	if err == nil && options.OriginalSize != nil {
		g.mu.Lock()
		g.seen[layer.ID] = *options.OriginalSize
		g.mu.Unlock()
		if algorithm := algorithmName(format); algorithm != "" {
			recordBlob(g.Store, layer.ID, knownBlob{Digest: options.OriginalDigest, Size: *options.OriginalSize, Algorithm: algorithm})
		}
	}
	return layer, size, err
}

// CreateImage refuses an image whose config does not describe its layers.
func (g *guardedStore) CreateImage(id string, names []string, layer, metadata string, options *cs.ImageOptions) (*cs.Image, error) {
	if options != nil {
		if err := g.checkImage(layer, options.BigData); err != nil {
			return nil, err
		}
	}
	img, err := g.Store.CreateImage(id, names, layer, metadata, options)
	if errors.Is(err, cs.ErrDuplicateID) {
		if err := store.VerifyImage(g.Store, id); err != nil {
			return nil, err
		}
		g.compare(id, layer)
	}
	return img, err
}

// compare looks whether the image that the store has already is of the same layers. The IDs of layers differ if it was
// built here; the library, which gives the image another name then, knows it by them.
func (g *guardedStore) compare(id, top string) {
	img, err := g.Store.Image(id)
	if err != nil || img.TopLayer == top || !g.sameLayers(img.TopLayer, top) {
		return
	}
	twin := *img
	twin.TopLayer = top
	g.mu.Lock()
	g.twin = &twin
	g.mu.Unlock()
}

// sameLayers tells whether two stacks of layers have the same content.
func (g *guardedStore) sameLayers(a, b string) bool {
	for a != b {
		if a == "" || b == "" {
			return false
		}
		one, err := g.Layer(a)
		if err != nil {
			return false
		}
		other, err := g.Layer(b)
		if err != nil || one.UncompressedDigest == "" || one.UncompressedDigest != other.UncompressedDigest {
			return false
		}
		a, b = one.Parent, other.Parent
	}
	return true
}

// Image finds an image, and after CreateImage that one's twin.
func (g *guardedStore) Image(id string) (*cs.Image, error) {
	g.mu.Lock()
	twin := g.twin
	g.mu.Unlock()
	if twin != nil && twin.ID == id {
		return twin, nil
	}
	return g.Store.Image(id)
}

// PullOptions turns partial pulls off: they write layers that never pass as a
// tar stream.
func (g *guardedStore) PullOptions() map[string]string {
	options := maps.Clone(g.Store.PullOptions())
	if options == nil {
		options = make(map[string]string)
	}
	options["enable_partial_images"] = "false"
	options["convert_images"] = "false"
	return options
}

// LookupAdditionalLayer finds none, for the reason of PullOptions.
func (g *guardedStore) LookupAdditionalLayer(digest.Digest, string) (cs.AdditionalLayer, error) {
	return nil, cs.ErrLayerUnknown
}

// LookupAdditionalLayerByID finds none, for the reason of PullOptions.
func (g *guardedStore) LookupAdditionalLayerByID(string) (cs.AdditionalLayer, error) {
	return nil, cs.ErrLayerUnknown
}

// checkImage compares the config's diff_ids and the manifest's sizes with the
// layers that the image is about to get.
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
	if is := described.OS + "/" + described.Architecture; is != g.want && described.OS != "" && described.Architecture != "" {
		// Not refused: configs of images that are no lists are often wrong, and
		// files can be copied from any.
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
		// A layer without a digest was pulled in part by another tool, which
		// verified its table of contents instead.
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
	if size, ok := g.seen[id]; ok && size != blob.Size {
		return fmt.Errorf("the manifest gives it the size %d, it has %d bytes", blob.Size, size)
	}
	return nil
}

// checkedReader passes a tar stream on and gives a copy to checkLayer. It ends
// with io.EOF only if that accepts the whole.
type checkedReader struct {
	ctx     context.Context //nolint:containedctx // an io.Reader's Read takes none
	src     io.Reader
	copy    *io.PipeWriter
	verdict chan error
	err     error // what every further Read returns
}

func newCheckedReader(ctx context.Context, src io.Reader, owner func(uid, gid int) error) *checkedReader {
	pr, pw := io.Pipe()
	c := &checkedReader{ctx: ctx, src: src, copy: pw, verdict: make(chan error, 1)}
	go func() {
		err := checkLayer(tar.NewReader(pr), owner)
		if err == nil {
			_, err = io.Copy(io.Discard, pr) // padding behind the end of the archive
		}
		c.verdict <- err
		_ = pr.CloseWithError(err) // documented to return nil always
	}()
	return c
}

func (c *checkedReader) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if err := c.ctx.Err(); err != nil {
		return 0, c.fail(err)
	}
	n, err := c.src.Read(p)
	if n > 0 {
		if _, copyErr := c.copy.Write(p[:n]); copyErr != nil {
			return 0, c.fail(<-c.verdict)
		}
	}
	switch {
	case err == nil:
		return n, nil
	case !errors.Is(err, io.EOF):
		return n, c.fail(err)
	}
	_ = c.copy.Close() // documented to return nil always
	if err := <-c.verdict; err != nil {
		return 0, c.fail(err)
	}
	c.err = io.EOF
	return n, io.EOF
}

func (c *checkedReader) fail(err error) error {
	if err == nil {
		err = io.ErrClosedPipe
	}
	c.err = err
	_ = c.copy.CloseWithError(err) // documented to return nil always
	return err
}

// judged is what is wrong with the stream, as far as it was read. It must have been closed.
func (c *checkedReader) judged() error {
	if c.err != nil {
		return c.err
	}
	return <-c.verdict
}

// Close ends the check of a stream that was not read to its end.
func (c *checkedReader) Close() {
	_ = c.copy.CloseWithError(io.ErrUnexpectedEOF) // documented to return nil always
}
