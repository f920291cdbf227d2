package memory_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/internal/rootfs/memory"
	"codeberg.org/rbuild/rbuild/internal/rootfs/rootfstest"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

func open(t *testing.T, l *rootfstest.Layout) *memory.Backend {
	t.Helper()
	b, err := memory.Open(l, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBackend(t *testing.T) {
	rootfstest.Test(t, func(t *testing.T) rootfs.Backend { return open(t, rootfstest.NewLayout(t)) })
}

// putImage builds an image of one layer with one file and keeps it in the layout as "id".
func putImage(t *testing.T, l *rootfstest.Layout) commit.Layer {
	t.Helper()
	b := open(t, l)
	s, err := b.Scratch()
	if err != nil {
		t.Fatal(err)
	}
	open, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rootfstest.Write(t, open, "a", "1")
	job, err := open.Commit(t.Context(), rootfs.CommitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	stored, err := job.Wait(t.Context())
	if err := errors.Join(err, b.Close()); err != nil {
		t.Fatal(err)
	}

	l.Configs["id"] = config(t, stored.DiffID)
	l.Layers["id"] = []ocispec.Descriptor{{Digest: stored.DiffID, Size: stored.Size}}
	return stored
}

func config(t *testing.T, ids ...digest.Digest) []byte {
	t.Helper()
	data, err := json.Marshal(ocispec.Image{RootFS: ocispec.RootFS{Type: "layers", DiffIDs: ids}})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestImage(t *testing.T) {
	l := rootfstest.NewLayout(t)
	stored := putImage(t, l)
	b := open(t, l)
	image, s, err := b.Image(t.Context(), "id")
	if err != nil {
		t.Fatal(err)
	}

	want := rootfs.Image{
		ID: "id", Config: l.Configs["id"], ConfigDigest: digest.FromBytes(l.Configs["id"]), Annotations: map[string]string{"id": "id"},
		Blobs: map[digest.Digest]ocispec.Descriptor{stored.DiffID: l.Layers["id"][0]},
	}
	if diff := cmp.Diff(want, image); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a=1"}, rootfstest.Files(t, s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// TestLayersAreReadLate shows that an image whose files nobody looks at is not read.
func TestLayersAreReadLate(t *testing.T) {
	l := rootfstest.NewLayout(t)
	putImage(t, l)
	clear(l.Blobs)
	b := open(t, l)
	_, s, err := b.Image(t.Context(), "id")
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Layers()) != 1 {
		t.Errorf("%d layers", len(s.Layers()))
	}
	for range 2 { // the error stays
		if _, err := s.Clone().View(t.Context()); err == nil || !strings.Contains(err.Error(), "no blob") {
			t.Errorf("error %v", err)
		}
	}
	if _, err := s.Begin(t.Context()); err == nil {
		t.Error("a layer began on files that cannot be read")
	}
}

func TestDocumentsThatDisagree(t *testing.T) {
	sum := digest.FromString("a")
	for _, tc := range []struct {
		name   string
		config []byte
		layers []ocispec.Descriptor
		want   string
	}{
		{"no JSON", []byte("{"), nil, "reading the config"},
		{"fewer layers", config(t, sum), nil, "its config names 1 layers, its manifest 0"},
		{"no digest", config(t, "sha256:zz"), []ocispec.Descriptor{{}}, `the digest "sha256:zz"`},
		{"negative size", config(t, sum), []ocispec.Descriptor{{Size: -1}}, "the size -1"},
		{"unknown image", nil, nil, "no image"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := rootfstest.NewLayout(t)
			if tc.config != nil {
				l.Configs["id"], l.Layers["id"] = tc.config, tc.layers
			}
			_, _, err := open(t, l).Image(t.Context(), "id")
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

// TestNoMounts shows that a RUN fails with a reason, and that the cache cannot be used.
func TestNoMounts(t *testing.T) {
	b := open(t, rootfstest.NewLayout(t))
	s, err := b.Scratch()
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, files := range []rootfs.Files{s, l} {
		if _, err := files.Mount(); !errors.Is(err, rootfs.ErrNoMount) {
			t.Errorf("error %v", err)
		}
	}
	if l.TempDir() != "" {
		t.Error("a layer in memory has a directory")
	}
}

func TestStoreFails(t *testing.T) {
	l := rootfstest.NewLayout(t)
	b := open(t, l)
	s, err := b.Scratch()
	if err != nil {
		t.Fatal(err)
	}
	layer, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.Err = errors.New("no space")
	if _, err := layer.Commit(t.Context(), rootfs.CommitOptions{}); !errors.Is(err, l.Err) {
		t.Errorf("error %v", err)
	}
	if len(s.Layers()) > 0 {
		t.Error("the stack has a layer that is not stored")
	}
	if _, err := memory.Open(l, nil); !errors.Is(err, l.Err) {
		t.Errorf("error %v", err)
	}
}
