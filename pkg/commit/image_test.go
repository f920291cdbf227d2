package commit

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestHistory(t *testing.T) {
	at := time.Unix(1, 0).UTC()
	layer := ocispec.History{Created: &at, CreatedBy: "RUN"}
	meta := ocispec.History{Created: &at, CreatedBy: "ENV", EmptyLayer: true}
	unknown := ocispec.History{Comment: "layer without a history"}
	dated := unknown
	dated.Created = &at
	for _, tc := range []struct {
		name   string
		base   []ocispec.History
		layers int
		want   []ocispec.History
	}{
		{"agrees", []ocispec.History{layer, meta}, 1, []ocispec.History{layer, meta}},
		{"none", nil, 2, []ocispec.History{unknown, unknown}},
		{"too short", []ocispec.History{layer, meta}, 2, []ocispec.History{dated, layer, meta}},
		{"too long", []ocispec.History{layer, layer, meta}, 1, []ocispec.History{unknown}},
		{"no layers", []ocispec.History{meta}, 0, []ocispec.History{meta}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, History(tc.base, tc.layers)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// sample returns an image with a plain layer, a layer that was pulled with gzip and a layer that
// was pulled with zstd.
func sample(format Format) Image {
	plain := Layer{ID: "a", DiffID: digest.FromString("a"), Size: 10}
	gzip := Layer{ID: "b", DiffID: digest.FromString("b"), Size: 20}
	zstd := Layer{ID: "c", DiffID: digest.FromString("c"), Size: 30}
	i := Image{
		Layers:      []Layer{plain, gzip, zstd},
		Annotations: map[string]string{"key": "value"},
		Format:      format,
		Names:       []string{"localhost/app:1"},
		Blobs: map[digest.Digest]ocispec.Descriptor{
			gzip.DiffID: {MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("gz"), Size: 5},
			zstd.DiffID: {MediaType: ocispec.MediaTypeImageLayerZstd, Digest: digest.FromString("zst"), Size: 6},
		},
	}
	i.Config.History = History(nil, 3)
	return i
}

func TestDocuments(t *testing.T) {
	const docker = "application/vnd.docker."
	for _, tc := range []struct {
		name        string
		format      Format
		types       []string // of the manifest, of the config, of the layers
		annotations map[string]string
	}{
		{
			"OCI", OCI,
			[]string{
				ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig,
				ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd,
			},
			map[string]string{"key": "value"},
		},
		{
			"Docker", Docker,
			[]string{
				docker + "distribution.manifest.v2+json", docker + "container.image.v1+json",
				docker + "image.rootfs.diff.tar", docker + "image.rootfs.diff.tar.gzip", docker + "image.rootfs.diff.tar.zstd",
			},
			nil,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			i := sample(tc.format)
			d, err := i.Documents()
			ok(t, err)

			var m ocispec.Manifest
			ok(t, json.Unmarshal(d.Manifest, &m))
			want := ocispec.Manifest{
				MediaType: tc.types[0],
				Config:    ocispec.Descriptor{MediaType: tc.types[1], Digest: digest.FromBytes(d.Config), Size: int64(len(d.Config))},
				Layers: []ocispec.Descriptor{
					{MediaType: tc.types[2], Digest: digest.FromString("a"), Size: 10},
					{MediaType: tc.types[3], Digest: digest.FromString("gz"), Size: 5},
					{MediaType: tc.types[4], Digest: digest.FromString("zst"), Size: 6},
				},
				Annotations: tc.annotations,
			}
			want.SchemaVersion = 2
			if diff := cmp.Diff(want, m); diff != "" {
				t.Errorf("manifest (-want +got):\n%s", diff)
			}

			var c ocispec.Image
			ok(t, json.Unmarshal(d.Config, &c))
			fs := ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString("a"), digest.FromString("b"), digest.FromString("c")}}
			if diff := cmp.Diff(fs, c.RootFS); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
			if d.TopLayer != "c" || !d.Created.IsZero() || len(d.Names) != 1 {
				t.Errorf("top layer %q, created %v, names %v", d.TopLayer, d.Created, d.Names)
			}

			again, err := i.Documents()
			if diff := cmp.Diff(d, again); err != nil || diff != "" {
				t.Errorf("the second call gives other documents: %v, %s", err, diff)
			}
			if got, err := FormatOf(d.Manifest); err != nil || got != tc.format {
				t.Errorf("FormatOf returns %v, %v", got, err)
			}
		})
	}
}

func TestDocumentsHistory(t *testing.T) {
	i := sample(OCI)
	i.Config.History = History(nil, 2)
	if _, err := i.Documents(); err == nil {
		t.Error("2 entries of history for 3 layers are no error")
	}

	i.NoHistory = true
	d, err := i.Documents()
	ok(t, err)
	var c ocispec.Image
	ok(t, json.Unmarshal(d.Config, &c))
	if c.History != nil {
		t.Errorf("NoHistory keeps %v", c.History)
	}
}

func TestDocumentsEmpty(t *testing.T) {
	created := time.Unix(5, 0).UTC()
	var i Image
	i.Config.Created = &created
	d, err := i.Documents()
	ok(t, err)
	if d.TopLayer != "" || !d.Created.Equal(created) {
		t.Errorf("top layer %q, created %v", d.TopLayer, d.Created)
	}
}

// images is a store with one image.
type images struct {
	put      Documents
	manifest []byte
	names    []string
	err      error
}

func (s *images) PutImage(d Documents) (string, []byte, error) {
	s.put = d
	return "id", s.manifest, s.err
}

func (s *images) NameImage(_ string, names []string) ([]byte, error) {
	s.names = names
	return s.manifest, s.err
}

func TestRecord(t *testing.T) {
	s := &images{manifest: []byte(`{"an older":"manifest"}`)}
	got, err := Record(s, sample(Docker))
	ok(t, err)
	want := Recorded{
		ID:     "id",
		Config: digest.FromBytes(s.put.Config),
		Manifest: ocispec.Descriptor{
			MediaType: "application/vnd.docker.distribution.manifest.v2+json",
			Digest:    digest.FromBytes(s.manifest),
			Size:      int64(len(s.manifest)),
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	s.err = errors.New("the store is read-only")
	if _, err := Record(s, sample(OCI)); !errors.Is(err, s.err) {
		t.Errorf("got %v, want %v", err, s.err)
	}
	if _, err := Record(s, Image{Layers: make([]Layer, 1)}); err == nil || errors.Is(err, s.err) {
		t.Errorf("an image without a history: %v", err)
	}
}

func TestName(t *testing.T) {
	config := digest.FromString("config")
	for _, tc := range []struct {
		name      string
		manifest  string
		storeErr  error
		mediaType string // empty: an error
	}{
		{"OCI", `{"config":{"digest":"` + config.String() + `"}}`, nil, ocispec.MediaTypeImageManifest},
		{
			"Docker",
			`{"config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"` + config.String() + `"}}`, nil,
			"application/vnd.docker.distribution.manifest.v2+json",
		},
		{"no JSON", `{`, nil, ""},
		{"no image", `{}`, errors.New("no image"), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &images{manifest: []byte(tc.manifest), err: tc.storeErr}
			got, err := Name(s, "id", []string{"localhost/a"})
			if tc.mediaType == "" {
				if err == nil {
					t.Errorf("got %+v, want an error", got)
				}
				return
			}
			ok(t, err)
			if got.ID != "id" || got.Config != config || got.Manifest.MediaType != tc.mediaType {
				t.Errorf("got %+v", got)
			}
			if diff := cmp.Diff([]string{"localhost/a"}, s.names); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
		})
	}
}
