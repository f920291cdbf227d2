package record_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/record"
	"codeberg.org/rbuild/rbuild/pkg/commit"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// images is a store that remembers the last image and the last names.
type images struct {
	t        *testing.T
	config   instructions.Image
	manifest ocispec.Manifest
	names    []string
	puts     int
	existing string // manifest of an image that exists
	err      error
}

func (s *images) PutImage(d commit.Documents) (string, []byte, error) {
	s.t.Helper()
	s.puts++
	s.config = instructions.Image{}
	s.manifest = ocispec.Manifest{}
	if err := errors.Join(json.Unmarshal(d.Config, &s.config), json.Unmarshal(d.Manifest, &s.manifest)); err != nil {
		s.t.Fatal(err)
	}
	s.names = d.Names
	return "new", d.Manifest, s.err
}

func (s *images) NameImage(_ string, names []string) ([]byte, error) {
	s.names = names
	return []byte(s.existing), s.err
}

var base = digest.FromString("base")

const ociManifest = `{"config":{"digest":"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}}`

// existing is a stage that is an image of the store.
func existing() record.Stage {
	var config instructions.Image
	config.Config.Labels = map[string]string{"a": "1"}
	config.History = []ocispec.History{{CreatedBy: "COPY"}}
	found := config
	return record.Stage{
		Config: config, Found: &found, BaseID: "old", Layers: []commit.Layer{{ID: "l", DiffID: base}},
		Annotations: map[string]string{"x": "1", ocispec.AnnotationCreated: "then"},
	}
}

// TestKeep has one option after the other that changes an existing image.
func TestKeep(t *testing.T) {
	epoch := time.Unix(5, 0)
	for _, tc := range []struct {
		name   string
		change func(*record.Recorder, *record.Stage)
		want   bool
	}{
		{"names only", func(*record.Recorder, *record.Stage) {}, true},
		{"a label that the image has", func(r *record.Recorder, _ *record.Stage) { r.Options.Labels.Set = []record.Label{{"a", "1"}} }, true},
		{"another label", func(r *record.Recorder, _ *record.Stage) { r.Options.Labels.Set = []record.Label{{"a", "2"}} }, false},
		{"no labels of the base", func(r *record.Recorder, _ *record.Stage) { r.Options.Labels.NoBase = true }, false},
		{"an annotation", func(r *record.Recorder, _ *record.Stage) { r.Options.Annotations.Set = map[string]string{"y": "1"} }, false},
		{"one annotation less", func(r *record.Recorder, _ *record.Stage) { r.Options.Annotations.Unset = []string{"x"} }, false},
		{"an unset annotation that the image lacks", func(r *record.Recorder, _ *record.Stage) { r.Options.Annotations.Unset = []string{"y"} }, true},
		{"no history", func(r *record.Recorder, _ *record.Stage) { r.Options.NoHistory = true }, false},
		{"a time", func(r *record.Recorder, _ *record.Stage) { r.Epoch = &epoch }, false},
		{"another format", func(r *record.Recorder, _ *record.Stage) { r.Options.Format = commit.Docker }, false},
		{"another default format", func(r *record.Recorder, _ *record.Stage) {
			r.Options.Format = commit.Docker
			r.Options.AnyFormat = true
		}, true},
		{"a step was done", func(_ *record.Recorder, s *record.Stage) { s.Found = nil }, false},
		{"triggers", func(_ *record.Recorder, s *record.Stage) { s.Found.Config.OnBuild = []string{"RUN a"} }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			store := &images{t: t, existing: ociManifest}
			r := record.Recorder{Images: store, Options: record.Options{Names: []string{"localhost/a:1"}}}
			s := existing()
			tc.change(&r, &s)
			image, kept, err := r.Keep(&s)
			if err != nil || kept != tc.want || kept && (image.ID != "old" || len(store.names) != 1) || store.puts > 0 {
				t.Errorf("kept %v, image %q, names %q, %d images, %v", kept, image.ID, store.names, store.puts, err)
			}
		})
	}
}

func TestImage(t *testing.T) {
	store := &images{t: t}
	epoch := time.Unix(5, 0).UTC()
	r := record.Recorder{Images: store, Epoch: &epoch, Options: record.Options{
		Names:       []string{"localhost/a:1"},
		Annotations: record.AnnotationOptions{Set: map[string]string{"y": "2"}, Created: true},
		System:      record.SystemOptions{Version: "10", Features: []string{"f"}},
	}}
	s := existing()
	s.Base = record.Base{Name: "docker.io/library/alpine", Digest: base}
	image, err := r.Image(&s)
	if err != nil || image.ID != "new" {
		t.Fatalf("image %q, %v", image.ID, err)
	}

	want := map[string]string{
		"x": "1", "y": "2", ocispec.AnnotationCreated: "1970-01-01T00:00:05Z",
		ocispec.AnnotationBaseImageName: "docker.io/library/alpine", ocispec.AnnotationBaseImageDigest: base.String(),
	}
	if diff := cmp.Diff(want, store.manifest.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	if store.config.OSVersion != "10" || !store.config.Created.Equal(epoch) || len(store.names) != 1 {
		t.Errorf("config %+v, names %q", store.config, store.names)
	}
}

// TestSave has labels that describe the stage and labels of the user.
func TestSave(t *testing.T) {
	store := &images{t: t}
	r := record.Recorder{Images: store, Options: record.Options{
		Names:  []string{"localhost/a:1"},
		Stages: record.StageImages{Labels: []record.Label{{"b", "2"}}},
	}}
	if labels := r.Describe("build", "alpine"); labels != nil {
		t.Errorf("labels %q, want none", labels)
	}

	r.Options.Stages.Describe = true
	s := existing()
	id, err := r.Save(&s, r.Describe("build", "alpine"))
	if err != nil || id != "new" || store.names != nil {
		t.Errorf("image %q with the names %q, %v", id, store.names, err)
	}
	want := map[string]string{"a": "1", "b": "2", "io.buildah.stage.name": "build", "io.buildah.stage.base": "alpine"}
	if diff := cmp.Diff(want, store.config.Config.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"x": "1"}, store.manifest.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}

	store.err = errors.New("the store is read-only")
	if _, err := r.Save(&s, nil); !errors.Is(err, store.err) {
		t.Errorf("got %v, want %v", err, store.err)
	}
}
