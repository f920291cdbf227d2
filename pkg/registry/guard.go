package registry

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
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
	ctx context.Context //nolint:containedctx // cs.Store's calls take none, and a pull must be stoppable while it unpacks
}

func guard(ctx context.Context, st cs.Store) cs.Store { return &guardedStore{Store: st, ctx: ctx} }

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
	plain, err := archive.DecompressStream(diff)
	if err != nil {
		return nil, -1, fmt.Errorf("decompressing the layer: %w", err)
	}
	checked := newCheckedReader(g.ctx, plain)
	layer, size, err := g.Store.PutLayer(id, parent, names, mountLabel, writeable, &options, checked)
	checked.Close()
	_ = plain.Close() // what it read has been judged by then
	return layer, size, err
}

// CreateImage refuses an image whose config does not describe its layers.
func (g *guardedStore) CreateImage(id string, names []string, layer, metadata string, options *cs.ImageOptions) (*cs.Image, error) {
	if options != nil {
		if err := g.checkImage(layer, options.BigData); err != nil {
			return nil, err
		}
	}
	return g.Store.CreateImage(id, names, layer, metadata, options)
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

// checkImage compares the config's diff_ids with the layers that the image is
// about to get, and the sizes of the manifest with possibility.
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
	for _, blob := range append(m.LayerInfos(), manifest.LayerInfo{BlobInfo: m.ConfigInfo()}) {
		if blob.Size < -1 { // -1 is the library's "not said"
			return fmt.Errorf("the manifest gives blob %s the size %d", blob.Digest, blob.Size)
		}
	}
	rawConfig, ok := blobs[m.ConfigInfo().Digest.String()]
	if !ok {
		return nil // manifests of schema 1 have no config
	}
	var config ocispec.Image
	if err := json.Unmarshal(rawConfig, &config); err != nil {
		return fmt.Errorf("reading the config of the image: %w", err)
	}
	return g.checkDiffIDs(top, config.RootFS.DiffIDs)
}

func (g *guardedStore) checkDiffIDs(top string, claimed []digest.Digest) error {
	id := top
	for i := len(claimed) - 1; i >= 0; i-- {
		if id == "" {
			return fmt.Errorf("the config of the image lists %d layers, it has %d", len(claimed), len(claimed)-1-i)
		}
		layer, err := g.Layer(id)
		if err != nil {
			return fmt.Errorf("reading layer %s: %w", id, err)
		}
		// A layer without a digest was pulled in part by another tool, which
		// verified its table of contents instead.
		if got := layer.UncompressedDigest; got != "" && got != claimed[i] {
			return fmt.Errorf("layer %d has the digest %s, the config of the image says %s", i+1, got, claimed[i])
		}
		id = layer.Parent
	}
	if id != "" {
		return fmt.Errorf("the config of the image lists %d layers, it has more", len(claimed))
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

func newCheckedReader(ctx context.Context, src io.Reader) *checkedReader {
	pr, pw := io.Pipe()
	c := &checkedReader{ctx: ctx, src: src, copy: pw, verdict: make(chan error, 1)}
	go func() {
		err := checkLayer(tar.NewReader(pr))
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

// Close ends the check of a stream that was not read to its end.
func (c *checkedReader) Close() {
	_ = c.copy.CloseWithError(io.ErrUnexpectedEOF) // documented to return nil always
}
