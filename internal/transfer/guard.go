package transfer

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
	seen map[string]knownBlob // the blobs of the layers that were put, by the ID of the layer

	image     string          // ID of the image that CreateImage gave last
	manifests []digest.Digest // of the image: its own, and the list that it was chosen from
	created   map[string]bool // the images that this guard has created, by ID
}

func guard(ctx context.Context, st cs.Store, o Options) *guardedStore {
	want := cmp.Or(o.Platform.OS, runtime.GOOS) + "/" + cmp.Or(o.Platform.Architecture, runtime.GOARCH)
	return &guardedStore{Store: st, ctx: ctx, want: want, owner: o.Owner, seen: make(map[string]knownBlob), created: make(map[string]bool)}
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
	stored := int64(0) // bytes of the layer as it came; 0: unknown
	if options.OriginalSize != nil {
		stored = *options.OriginalSize
	}
	if file, ok := diff.(*os.File); ok {
		if info, err := file.Stat(); err == nil {
			stored = info.Size()
		}
		// The store sees the stream decompressed and could not tell.
		if stored > 0 && options.OriginalSize == nil && options.OriginalDigest != "" {
			options.OriginalSize = &stored
		}
	}

	head := bufio.NewReader(diff)
	magic, _ := head.Peek(16) // a shorter layer, or an error, DecompressStream sees too
	format := archive.DetectCompression(magic)
	plain, err := archive.DecompressStream(head)
	if err != nil {
		return nil, -1, fmt.Errorf("decompressing the layer: %w", err)
	}

	checked := newCheckedReader(g.ctx, plain, stored, g.owner)
	layer, size, err := g.Store.PutLayer(id, parent, names, mountLabel, writeable, &options, checked)
	checked.Close()
	shown := cmp.Or(options.OriginalDigest, digest.Digest(id))
	err = checked.cause(err, shown)
	if err == nil {
		if err = leaveOutDevices(g.Store, layer.ID, shown.String(), checked.devices); err != nil {
			err = errors.Join(err, g.DeleteLayer(layer.ID))
		}
	}

	_ = plain.Close() // what it read has been judged by then
	if err == nil && options.OriginalSize != nil {
		g.mu.Lock()
		g.seen[layer.ID] = knownBlob{Digest: options.OriginalDigest, Size: *options.OriginalSize}
		g.mu.Unlock()
		if algorithm := algorithmName(format); algorithm != "" {
			recordBlob(g.Store, layer.ID, knownBlob{Digest: options.OriginalDigest, Size: *options.OriginalSize, Algorithm: algorithm})
		}
	}

	return layer, size, err
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

	// The library may have put a copy of another layer with the same content. That copy is not the blob of the manifest.
	if seen, ok := g.seen[id]; ok && seen.Digest == blob.Digest && seen.Size != blob.Size {
		return fmt.Errorf("the manifest gives it the size %d, it has %d bytes", blob.Size, seen.Size)
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
	devices []string // of the layer; valid when the verdict is nil
	err     error    // what every further Read returns
}

// stored is the size of the stream before it was decompressed, in bytes; 0: unknown.
func newCheckedReader(ctx context.Context, src io.Reader, stored int64, owner func(uid, gid int) error) *checkedReader {
	pr, pw := io.Pipe()
	c := &checkedReader{ctx: ctx, src: src, copy: pw, verdict: make(chan error, 1)}
	go func() {
		var err error
		c.devices, err = checkLayer(tar.NewReader(pr), stored, owner)
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

// cause is why a layer could not be stored, given the library's error: the library may have met first what is wrong with it.
func (c *checkedReader) cause(err error, layer digest.Digest) error {
	if err == nil {
		return nil
	}

	verdict := c.judged()
	if owner := (*OwnerError)(nil); errors.As(verdict, &owner) {
		owner.Layer = layer
		return owner
	}
	if refused := (*RefusedError)(nil); errors.As(verdict, &refused) {
		return refused
	}
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
