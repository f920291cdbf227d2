package images

import (
	"fmt"
	"slices"
	"strings"

	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/pkg/compression"
	"go.podman.io/storage/pkg/archive"
)

// Compression is a way to compress the layers of an image. The flag --compression-format, its help,
// the checks of a push and the stores read the rows of [Compressions] only: a new compression is a
// new row.
type Compression struct {
	Algorithm compression.Algorithm // of the library, with the name of --compression-format
	MediaType string                // ending of the media types of layers, behind "+" (OCI) or "." (Docker), for example "gzip"
	MaxLevel  int                   // the highest value of --compression-level; the lowest is 0
	Docker    bool                  // manifests of the format docker have a media type for such layers

	// Archive is the number of the format where the store detects formats by their first bytes. It
	// is archive.Uncompressed for a row that cannot be told from another row by its bytes.
	Archive archive.Compression
	// Annotations is the prefix of annotations that the compression adds to a layer. Such a layer
	// is more than its bytes: a push does not send it from a record. "": none.
	Annotations string
}

// Compressions returns the compressions that layers can have in registries, the default first.
func Compressions() []Compression {
	return []Compression{
		{Algorithm: compression.Gzip, MediaType: "gzip", MaxLevel: 9, Docker: true, Archive: archive.Gzip},
		{Algorithm: compression.Zstd, MediaType: "zstd", MaxLevel: 20, Archive: archive.Zstd},
		{
			Algorithm: compression.ZstdChunked, MediaType: "zstd", MaxLevel: 20,
			Annotations: "io.github.containers.zstd-chunked.",
		},
	}
}

// CompressionNames returns the names of the rows that keep accepts, in order. A nil keep accepts
// all.
func CompressionNames(keep func(c Compression) bool) []string {
	var names []string
	for _, c := range Compressions() {
		if keep == nil || keep(c) {
			names = append(names, c.Algorithm.Name())
		}
	}
	return names
}

// CompressionChoice lists all names for a person: "gzip, zstd or zstd:chunked".
func CompressionChoice() string {
	all := CompressionNames(nil)
	last := len(all) - 1
	return strings.Join(all[:last], ", ") + " or " + all[last]
}

// CompressionByName returns the row of a name; "" is the default.
func CompressionByName(name string) (Compression, error) {
	rows := Compressions()
	if name == "" {
		return rows[0], nil
	}

	i := slices.IndexFunc(rows, func(c Compression) bool { return c.Algorithm.Name() == name })
	if i < 0 {
		return Compression{}, fmt.Errorf("compression format %q: choose %s", name, CompressionChoice())
	}
	return rows[i], nil
}

// Plain reports whether a compressed layer is nothing but its bytes, so that a digest and a size
// describe the layer.
func (c Compression) Plain() bool { return c.Annotations == "" }

// CompressionOfLayer returns the compression of a layer of a manifest. ok is false for a layer that
// is not compressed, that has annotations, or whose compression has no row.
func CompressionOfLayer(layer manifest.LayerInfo) (c Compression, ok bool) {
	if len(layer.Annotations) > 0 {
		return Compression{}, false
	}
	return findCompression(func(c Compression) bool { return strings.HasSuffix(layer.MediaType, c.MediaType) })
}

// CompressionOfArchive returns the compression of a format that the store detected by the first
// bytes of a layer.
func CompressionOfArchive(format archive.Compression) (c Compression, ok bool) {
	return findCompression(func(c Compression) bool { return c.Archive == format })
}

// findCompression returns the first plain row that match accepts.
func findCompression(match func(c Compression) bool) (c Compression, ok bool) {
	for _, c := range Compressions() {
		if c.Plain() && match(c) {
			return c, true
		}
	}
	return Compression{}, false
}

// IsCompressed reports whether a layer with this media type is compressed.
func IsCompressed(mediaType string) bool {
	return slices.ContainsFunc(Compressions(), func(c Compression) bool { return strings.HasSuffix(mediaType, c.MediaType) })
}

// TrimCompression removes the compression from the media type of a layer: "…layer.v1.tar+gzip"
// becomes "…layer.v1.tar".
func TrimCompression(mediaType string) string {
	for _, c := range Compressions() {
		mediaType = strings.TrimSuffix(strings.TrimSuffix(mediaType, "+"+c.MediaType), "."+c.MediaType)
	}
	return mediaType
}
