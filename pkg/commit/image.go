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
)

// Format selects the media types of the documents of an image.
type Format int

// The formats of images. The zero value is OCI.
const (
	OCI    Format = iota // image-spec v1.1
	Docker               // image manifest version 2, schema 2
)

// mediaTypes holds the media types of a format.
type mediaTypes struct {
	manifest string
	config   string
	layer    string // of an uncompressed layer
	plus     string // separates the compression in the media type of a compressed layer
}

func (f Format) mediaTypes() mediaTypes {
	if f == Docker {
		return mediaTypes{
			manifest: "application/vnd.docker.distribution.manifest.v2+json",
			config:   dockerspec.DockerOCIImageMediaType,
			layer:    "application/vnd.docker.image.rootfs.diff.tar",
			plus:     ".",
		}
	}
	return mediaTypes{
		manifest: ocispec.MediaTypeImageManifest,
		config:   ocispec.MediaTypeImageConfig,
		layer:    ocispec.MediaTypeImageLayer,
		plus:     "+",
	}
}

// Image describes an image. Equal values give equal documents, and therefore equal digests.
type Image struct {
	// Config is the config document. Documents replaces its RootFS. Its History must have one entry
	// with EmptyLayer false for each layer: see [History].
	Config      dockerspec.DockerOCIImage
	Layers      []Layer           // lowest first
	Annotations map[string]string // of the manifest; the Docker format drops them
	Format      Format
	Names       []string // full references, for example "docker.io/library/app:1"
	// Blobs maps the DiffID of a layer to the compressed blob of the layer. The manifest names a
	// layer that is not in Blobs by its DiffID, uncompressed.
	Blobs map[digest.Digest]ocispec.Descriptor
	// NoHistory drops the history from the config.
	NoHistory bool
}

// Documents are the encoded parts of an image, for [Images].
type Documents struct {
	TopLayer string // ID of the topmost layer; empty: the image has no layers
	Config   []byte
	Manifest []byte
	Names    []string  // full references; other images lose them
	Created  time.Time // zero if the config does not say
}

// Recorded describes an image of a store.
type Recorded struct {
	ID       string             // of the record: the digest of the config, unless another image has that ID
	Config   digest.Digest      // of the config document
	Manifest ocispec.Descriptor // of the manifest, as the store has it
}

// Images stores images.
type Images interface {
	// PutImage records an image. It returns the ID of the record, and the manifest of the record,
	// which can be older than the given manifest and differ in the compression of the layers.
	PutImage(d Documents) (id string, manifest []byte, err error)
	// NameImage gives more names to the recorded image id and returns its manifest.
	NameImage(id string, names []string) (manifest []byte, err error)
}

// Documents returns the config and manifest documents of the image. It returns an error if the
// history and the layers disagree.
func (i Image) Documents() (Documents, error) {
	i.Config.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: diffIDs(i.Layers)}
	if i.NoHistory {
		i.Config.History = nil
	} else if n := layersOf(i.Config.History); n != len(i.Layers) {
		return Documents{}, fmt.Errorf("the image has %d layers, but its history describes %d", len(i.Layers), n)
	}

	config, err := json.Marshal(i.Config)
	if err != nil {
		return Documents{}, fmt.Errorf("writing the image's config: %w", err)
	}
	manifest, err := json.Marshal(i.manifest(config))
	if err != nil {
		return Documents{}, fmt.Errorf("writing the image's manifest: %w", err)
	}

	d := Documents{Config: config, Manifest: manifest, Names: i.Names}
	if len(i.Layers) > 0 {
		d.TopLayer = i.Layers[len(i.Layers)-1].ID
	}
	if i.Config.Created != nil {
		d.Created = *i.Config.Created
	}
	return d, nil
}

// Record stores an image.
func Record(images Images, i Image) (Recorded, error) {
	d, err := i.Documents()
	if err != nil {
		return Recorded{}, err
	}

	id, manifest, err := images.PutImage(d)

	return Recorded{
		ID:       id,
		Config:   digest.FromBytes(d.Config),
		Manifest: describe(manifest, i.Format.mediaTypes().manifest),
	}, err
}

// Name gives more names to the recorded image id. The image keeps its ID and manifest.
func Name(images Images, id string, names []string) (Recorded, error) {
	manifest, err := images.NameImage(id, names)
	if err != nil {
		return Recorded{}, err
	}

	format, err := FormatOf(manifest)
	if err != nil {
		return Recorded{}, fmt.Errorf("reading the manifest of image %s: %w", id, err)
	}

	var m ocispec.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return Recorded{}, fmt.Errorf("reading the manifest of image %s: %w", id, err)
	}

	return Recorded{
		ID:       id,
		Config:   m.Config.Digest,
		Manifest: describe(manifest, format.mediaTypes().manifest),
	}, nil
}

// describe returns the descriptor of a document.
func describe(document []byte, mediaType string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(document), Size: int64(len(document))}
}

// FormatOf returns the format of a manifest.
func FormatOf(manifest []byte) (Format, error) {
	var m struct {
		MediaType string `json:"mediaType"`
		Config    struct {
			MediaType string `json:"mediaType"`
		} `json:"config"`
	}

	if err := json.Unmarshal(manifest, &m); err != nil {
		return OCI, err
	}
	docker := Docker.mediaTypes()
	if m.MediaType == docker.manifest || m.Config.MediaType == docker.config {
		return Docker, nil
	}
	return OCI, nil
}

func diffIDs(layers []Layer) []digest.Digest {
	ids := make([]digest.Digest, 0, len(layers))
	for _, l := range layers {
		ids = append(ids, l.DiffID)
	}
	return ids
}

// manifest returns the manifest of the image with the given config document.
func (i Image) manifest(config []byte) ocispec.Manifest {
	types := i.Format.mediaTypes()
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: types.manifest,
		Config:    describe(config, types.config),
		Layers:    make([]ocispec.Descriptor, 0, len(i.Layers)),
	}

	if i.Format == OCI {
		m.Annotations = i.Annotations
	}
	for _, l := range i.Layers {
		d := ocispec.Descriptor{MediaType: types.layer, Digest: l.DiffID, Size: l.Size}
		if blob, ok := i.Blobs[l.DiffID]; ok {
			d.MediaType = types.compressedLayer(blob.MediaType)
			d.Digest = blob.Digest
			d.Size = blob.Size
		}
		m.Layers = append(m.Layers, d)
	}

	return m
}

// compressedLayer returns the media type of a layer with the compression of mediaType, which may be
// of another format.
func (t mediaTypes) compressedLayer(mediaType string) string {
	for _, name := range []string{"gzip", "zstd"} {
		if strings.HasSuffix(mediaType, name) {
			return t.layer + t.plus + name
		}
	}
	return t.layer
}

// layersOf counts the entries of a history that describe a layer.
func layersOf(history []ocispec.History) int {
	n := 0
	for _, h := range history {
		if !h.EmptyLayer {
			n++
		}
	}
	return n
}

// History returns the history of a base image, made to agree with the number of layers (image-spec
// config.md, "history"). Some base images have a history that does not agree. Entries are added in
// front for layers that the history lacks. A history with too many layers is replaced.
func History(base []ocispec.History, layers int) []ocispec.History {
	if layersOf(base) > layers {
		base = nil
	}

	var created *time.Time
	if len(base) > 0 {
		created = base[0].Created
	}

	missing := layers - layersOf(base)
	out := make([]ocispec.History, 0, len(base)+missing)
	for range missing {
		out = append(out, ocispec.History{Created: created, Comment: "layer without a history"})
	}
	return append(out, base...)
}
