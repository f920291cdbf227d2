package layout

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"

	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/images/imagetest"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// putLayered records an image with one layer, which holds a file of that name.
func putLayered(t *testing.T, l *Layout, file string, names ...string) (id string, layer digest.Digest) {
	t.Helper()
	data := imagetest.Tar(t, imagetest.File(file, file))
	layer = digest.FromBytes(data)
	err := l.PutLayer(func(w io.Writer) (digest.Digest, error) {
		_, err := w.Write(data)
		return layer, err
	})
	if err != nil {
		t.Fatal(err)
	}

	created := time.Unix(1700000000, 0).UTC()
	config, err := json.Marshal(ocispec.Image{Created: &created, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer}}})
	if err != nil {
		t.Fatal(err)
	}
	m := ocispec.Manifest{
		MediaType:   ocispec.MediaTypeImageManifest,
		Config:      ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))},
		Layers:      []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayer, Digest: layer, Size: int64(len(data))}},
		Annotations: map[string]string{"key": "value"},
	}
	m.SchemaVersion = 2
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	id, _, err = l.PutImage(commit.Documents{Config: config, Manifest: raw, Names: names})
	if err != nil {
		t.Fatal(err)
	}
	return id, layer
}

// blobs counts the files of the layout's blobs.
func blobs(t *testing.T, l *Layout) int {
	t.Helper()
	entries, err := os.ReadDir(l.blobs())
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestListImages(t *testing.T) {
	l := openTestLayout(t)
	if Exists(l.Dir()) {
		t.Error("a layout without an index exists")
	}
	id, layer := putLayered(t, l, "a", "localhost/a:1", "localhost/a:2")
	if !Exists(l.Dir()) {
		t.Error("a layout with an image does not exist")
	}

	all, err := l.ListImages()
	if err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	got := all[0]
	if got.ID != id || got.Created.Unix() != 1700000000 || got.Digest != l.Digest(id, "") {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff([]string{"localhost/a:1", "localhost/a:2"}, got.Names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(images.Usage{Size: 2048, Layers: []string{layer.String()}}, got.Usage); diff != "" {
		t.Errorf("layers (-want +got):\n%s", diff)
	}

	byName, err := l.ResolveImage("localhost/a:2")
	if err != nil || byName.ID != id || len(byName.Names) != 2 {
		t.Errorf("by a name: %+v, %v", byName, err)
	}
}

func TestReadImage(t *testing.T) {
	l := openTestLayout(t)
	id, layer := putLayered(t, l, "a", "localhost/a:1")
	content, err := l.ReadImage(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := content.Verify("a"); err != nil {
		t.Error(err)
	}
	if len(content.Layers) != 1 || content.Layers[0].DiffID != layer || content.Annotations["key"] != "value" || content.Driver != "oci" {
		t.Errorf("%+v", content)
	}
	if _, err := l.ReadImage("none"); !errors.Is(err, images.ErrNotFound) {
		t.Errorf("an image that is not there: %v", err)
	}
}

// TestRemoveImage: a name, then the image with its blobs. Blobs of another image stay.
func TestRemoveImage(t *testing.T) {
	l := openTestLayout(t)
	first, _ := putLayered(t, l, "a", "localhost/a:1", "localhost/a:2")
	second, _ := putLayered(t, l, "b", "localhost/b:1")
	if err := l.RemoveImage(first, images.Removal{Name: "localhost/a:1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.ResolveImage("localhost/a:1"); !errors.Is(err, images.ErrNotFound) {
		t.Errorf("the removed name: %v", err)
	}
	if n := blobs(t, l); n != 6 {
		t.Errorf("%d blobs, want 6", n)
	}

	// The last name leaves an image without a name.
	if err := l.RemoveImage(first, images.Removal{Name: "localhost/a:2"}); err != nil {
		t.Fatal(err)
	}
	if img, err := l.ResolveImage(first); err != nil || len(img.Names) > 0 {
		t.Errorf("without names: %+v, %v", img, err)
	}

	if err := l.RemoveImage(first, images.Removal{}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.ResolveImage(first); !errors.Is(err, images.ErrNotFound) {
		t.Errorf("the removed image: %v", err)
	}
	if n := blobs(t, l); n != 3 {
		t.Errorf("%d blobs, want 3", n)
	}
	if _, err := l.ReadImage(second); err != nil {
		t.Errorf("the other image: %v", err)
	}
	if err := l.RemoveImage(first, images.Removal{}); !errors.Is(err, images.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
}

// TestRemoveInUse: blobs stay while another process, here another Layout, uses the layout. The next
// removal removes them.
func TestRemoveInUse(t *testing.T) {
	l := openTestLayout(t)
	first, _ := putLayered(t, l, "a")
	second, _ := putLayered(t, l, "b")
	other, err := Open(l.Dir(), "")
	if err != nil {
		t.Fatal(err)
	}

	if err := l.RemoveImage(first, images.Removal{}); err != nil {
		t.Fatal(err)
	}
	if n := blobs(t, l); n != 6 {
		t.Errorf("%d blobs while the layout is in use, want 6", n)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.RemoveImage(second, images.Removal{}); err != nil {
		t.Fatal(err)
	}
	if n := blobs(t, l); n != 0 {
		t.Errorf("%d blobs at the end, want none", n)
	}
}

// TestFind: an image of a layout of others by its name, its position and its digest.
func TestFind(t *testing.T) {
	l := openTestLayout(t)
	id, _ := putLayered(t, l, "a", "localhost/a:1")
	putLayered(t, l, "b", "latest")
	sum := l.Digest(id, "")
	for which, want := range map[string]digest.Digest{"localhost/a:1": sum, "@0": sum, sum.String(): sum, "@2": "", "@-1": "", "none": ""} {
		raw, mediaType, err := Find(l.Dir(), which)
		if want == "" && err == nil || want != "" && (err != nil || digest.FromBytes(raw) != want || mediaType != ocispec.MediaTypeImageManifest) {
			t.Errorf("%s: %s %s, %v", which, mediaType, raw, err)
		}
	}
	if raw, _, err := Find(l.Dir(), ""); err != nil || digest.FromBytes(raw) == sum {
		t.Errorf("latest: %s, %v", raw, err)
	}
	if _, _, err := Find(filepath.Join(l.Dir(), "none"), ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no layout: %v", err)
	}
}

// TestNoStore: an image of a layout cannot be pushed into the store.
func TestNoStore(t *testing.T) {
	l := openTestLayout(t)
	name, err := reference.ParseNamed("localhost/a:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.StoreReference(t.Context(), name); !errors.Is(err, errNoStore) {
		t.Error(err)
	}
	if _, err := l.Send("none"); !errors.Is(err, images.ErrNotFound) {
		t.Error(err)
	}
	r, err := l.Receive(t.Context(), images.Incoming{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Finish(); !errors.Is(err, images.ErrNotFound) {
		t.Errorf("without a copy: %v", err)
	}
}
