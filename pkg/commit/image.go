package commit

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
)

// Format is the family of media types of an image's documents.
type Format int

// The formats of --format. The zero value is OCI.
const (
	OCI    Format = iota // image-spec v1.1
	Docker               // image manifest version 2, schema 2
)

// mediaTypes of a format: manifest, config, uncompressed layer.
var mediaTypes = map[Format][3]string{
	OCI: {ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayer},
	Docker: {
		"application/vnd.docker.distribution.manifest.v2+json", dockerspec.DockerOCIImageMediaType,
		"application/vnd.docker.image.rootfs.diff.tar",
	},
}

// ImageSpec is an image to record.
type ImageSpec struct {
	// Image is the config document but for its root file system, which Layers gives. Its history must tell of as many
	// layers as there are; see History.
	Image       dockerspec.DockerOCIImage
	Layers      []containers.Layer // lowest first
	Annotations map[string]string  // of the manifest; the Docker format has no place for them
	Format      Format
	Names       []string // full references
	// Blobs are what layers are that are kept as they were pulled, by the digest of their plain tar.
	Blobs     map[digest.Digest]ocispec.Descriptor
	NoHistory bool // the config has no history
}

// Recorded is an image in the store.
type Recorded struct {
	ID     string        // of the record: the digest of the config, unless another image with that config has it
	Config digest.Digest // of the config document
	// Manifest is what a list of manifests would say of the image's, as stored.
	Manifest ocispec.Descriptor
}

// Images records images: the store, or what is in its place.
type Images interface {
	PutImage(n images.NewImage) (id string, manifest []byte, err error)
	// NameImage gives an image that is there more names, and returns its manifest.
	NameImage(id string, names []string) (manifest []byte, err error)
}

// Image records an image. The same spec gives the same ID and digest each time.
func Image(s Images, spec ImageSpec) (Recorded, error) {
	spec.Image.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: diffIDs(spec.Layers)}
	if spec.NoHistory {
		spec.Image.History = nil
	} else if n := tellsOf(spec.Image.History); n != len(spec.Layers) {
		return Recorded{}, fmt.Errorf("the image's history tells of %d layers, but it has %d", n, len(spec.Layers))
	}

	config, err := json.Marshal(spec.Image)
	if err != nil {
		return Recorded{}, fmt.Errorf("writing the image's config: %w", err)
	}

	doc, err := json.Marshal(manifestOf(spec, config))
	if err != nil {
		return Recorded{}, fmt.Errorf("writing the image's manifest: %w", err)
	}

	n := images.NewImage{Config: config, Manifest: doc, Names: spec.Names}
	if len(spec.Layers) > 0 {
		n.TopLayer = spec.Layers[len(spec.Layers)-1].ID
	}
	if spec.Image.Created != nil {
		n.Created = *spec.Image.Created
	}
	id, doc, err := s.PutImage(n)
	desc := ocispec.Descriptor{MediaType: mediaTypes[spec.Format][0], Digest: digest.FromBytes(doc), Size: int64(len(doc))}

	return Recorded{ID: id, Config: digest.FromBytes(config), Manifest: desc}, err
}

// Keep gives an image that is there more names. The image stays as it is, with its ID and its manifest.
func Keep(s Images, id string, names []string) (Recorded, error) {
	doc, err := s.NameImage(id, names)
	if err != nil {
		return Recorded{}, err
	}

	_, mediaType, err := FormatOf(doc)
	if err != nil {
		return Recorded{}, fmt.Errorf("reading the manifest of image %s: %w", id, err)
	}

	var m ocispec.Manifest
	if err := json.Unmarshal(doc, &m); err != nil {
		return Recorded{}, fmt.Errorf("reading the manifest of image %s: %w", id, err)
	}

	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(doc), Size: int64(len(doc))}
	return Recorded{ID: id, Config: m.Config.Digest, Manifest: desc}, nil
}

// FormatOf returns the format of a manifest and its media type.
func FormatOf(manifest []byte) (Format, string, error) {
	var m struct {
		MediaType string `json:"mediaType"`
		Config    struct {
			MediaType string `json:"mediaType"`
		} `json:"config"`
	}

	if err := json.Unmarshal(manifest, &m); err != nil {
		return OCI, "", err
	}
	if m.MediaType == mediaTypes[Docker][0] || m.Config.MediaType == mediaTypes[Docker][1] {
		return Docker, mediaTypes[Docker][0], nil
	}
	return OCI, mediaTypes[OCI][0], nil
}

func diffIDs(layers []containers.Layer) []digest.Digest {
	ids := make([]digest.Digest, 0, len(layers))
	for _, l := range layers {
		ids = append(ids, l.DiffID)
	}
	return ids
}

// manifestOf names the layers by their uncompressed digests: compression is for the push.
func manifestOf(spec ImageSpec, config []byte) ocispec.Manifest {
	types := mediaTypes[spec.Format]
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: types[0],
		Config:    ocispec.Descriptor{MediaType: types[1], Digest: digest.FromBytes(config), Size: int64(len(config))},
		Layers:    make([]ocispec.Descriptor, 0, len(spec.Layers)),
	}

	if spec.Format == OCI {
		m.Annotations = spec.Annotations
	}
	for _, l := range spec.Layers {
		d := ocispec.Descriptor{MediaType: types[2], Digest: l.DiffID, Size: l.Size}
		if blob, ok := spec.Blobs[l.DiffID]; ok {
			d.MediaType, d.Digest, d.Size = types[2]+compressionOf(spec.Format, blob.MediaType), blob.Digest, blob.Size
		}
		m.Layers = append(m.Layers, d)
	}

	return m
}

// compressionOf is the ending of the media type of a layer that is kept as another says.
func compressionOf(f Format, mediaType string) string {
	for _, name := range []string{"gzip", "zstd"} {
		if strings.HasSuffix(mediaType, name) {
			return map[Format]string{OCI: "+", Docker: "."}[f] + name
		}
	}
	return ""
}

// tellsOf counts the entries of a history that stand for a layer.
func tellsOf(history []ocispec.History) int {
	n := 0
	for _, h := range history {
		if !h.EmptyLayer {
			n++
		}
	}
	return n
}

// History makes a base image's history agree with its number of layers (image-spec, config.md, "history"), which not
// every base's does: entries are added in front for layers that it does not know of; one that tells of more layers
// than there are is replaced.
func History(base []ocispec.History, layers int) []ocispec.History {
	if tellsOf(base) > layers {
		base = nil
	}
	var created *time.Time
	if len(base) > 0 {
		created = base[0].Created
	}
	missing := layers - tellsOf(base)
	out := make([]ocispec.History, 0, len(base)+missing)
	for range missing {
		out = append(out, ocispec.History{Created: created, Comment: "layer without a history"})
	}
	return append(out, base...)
}
