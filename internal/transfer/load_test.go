package transfer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

func TestLoad(t *testing.T) {
	img := makeImage(t, layerTar(t, dirEntry("etc"), entry("etc/one", "1")))
	layout, _ := strings.CutSuffix(strings.TrimPrefix(img.layout(t, "victim:latest"), "oci:"), ":victim:latest")
	manifest := digest.FromBytes(mustJSON(t, img.manifest)).String()
	o := hermetic(t)
	st := newStore(t)
	for _, tc := range []struct{ which, want string }{
		{"victim:latest", ""},
		{"", ""},
		{"@0", ""},
		{manifest, ""},
		{"@1", "none of its 1 images"},
		{"other", `it has no image "other": it has victim:latest`},
		{"sha256:" + strings.Repeat("0", 64), "no such file"},
		{"sha256:../../x", `it has no image "sha256:../../x"`},
	} {
		t.Run(tc.which, func(t *testing.T) {
			id, err := LoadLayout(t.Context(), st, layout, tc.which, o)
			if tc.want == "" && (err != nil || id != img.id(t)) {
				t.Errorf("%s, %v", id, err)
			}
			if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}

	got, err := library(t, st).Image(img.id(t))
	if err != nil || len(got.Names) != 0 {
		t.Errorf("names %q, %v: an image from a file is known by its ID only", got.Names, err)
	}
	for _, name := range []string{"docker://x", "x", "containers-storage:x"} {
		if _, err := Load(t.Context(), st, name, o); err == nil {
			t.Errorf("%s was loaded", name)
		}
	}
}

// TestLoadVerifies spoils each blob in turn.
func TestLoadVerifies(t *testing.T) {
	img := makeImage(t, layerTar(t, dirEntry("etc"), entry("etc/one", "1")))
	for _, name := range []string{"manifest", "config", "layer"} {
		t.Run(name, func(t *testing.T) {
			layout := strings.TrimPrefix(img.layout(t, ""), "oci:")
			d := map[string]digest.Digest{
				"manifest": digest.FromBytes(mustJSON(t, img.manifest)), "config": img.manifest.Config.Digest, "layer": img.manifest.Layers[0].Digest,
			}[name]
			path := filepath.Join(layout, "blobs/sha256", d.Encoded())
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, path, string(data)+" ")
			st, o := newStore(t), hermetic(t)
			if id, err := LoadLayout(t.Context(), st, layout, "", o); err == nil {
				t.Errorf("loaded as %s", id)
			}
			if images, err := library(t, st).Images(); err != nil || len(images) > 0 {
				t.Errorf("left: %v, %v", images, err)
			}
		})
	}
}

func TestLoadBounds(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "index.json"), strings.Repeat(" ", 4<<20+1))
	if _, err := LoadLayout(t.Context(), newStore(t), dir, "", hermetic(t)); err == nil || !strings.Contains(err.Error(), "has more than") {
		t.Error(err)
	}
	_, err := LoadLayout(t.Context(), newStore(t), t.TempDir(), "", hermetic(t))
	if !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestLoadIrregular loads what has a pipe, a device or another size in place of a file. It must not
// wait.
func TestLoadIrregular(t *testing.T) {
	img := makeImage(t, layerTar(t, entry("one", "1")))
	pipe := func(path string) error { return unix.Mkfifo(path, 0o600) }
	for _, tc := range []struct {
		name, want string
		digest     digest.Digest // of the blob that is replaced; empty: the index
		put        func(path string) error
	}{
		{"layer is a pipe", "not a regular file", img.manifest.Layers[0].Digest, pipe},
		{"config is a pipe", "not a regular file", img.manifest.Config.Digest, pipe},
		{"manifest is a pipe", "not a regular file", digest.FromBytes(mustJSON(t, img.manifest)), pipe},
		{"index is a pipe", "not a regular file", "", pipe},
		{"endless layer", "not a regular file", img.manifest.Layers[0].Digest, func(path string) error { return os.Symlink("/dev/zero", path) }},
		{"large layer", "the manifest says", img.manifest.Layers[0].Digest, func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			layout := strings.TrimPrefix(img.layout(t, ""), "oci:")
			path := filepath.Join(layout, "index.json")
			if tc.digest != "" {
				path = filepath.Join(layout, "blobs/sha256", tc.digest.Encoded())
			}
			if err := errors.Join(os.Remove(path), tc.put(path)); err != nil {
				t.Fatal(err)
			}
			wantLoadError(t, "oci:"+layout, tc.want)
		})
	}

	dir := t.TempDir()
	if err := pipe(filepath.Join(dir, "manifest.json")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"dir:" + dir, "docker-archive:" + dir + "/manifest.json", "oci-archive:" + dir + "/manifest.json"} {
		wantLoadError(t, name, "not a regular file")
	}
}

// TestLoadArchiveLinks loads an archive whose links lead to a layout beside it.
func TestLoadArchiveLinks(t *testing.T) {
	layout := strings.TrimPrefix(makeImage(t, layerTar(t, entry("one", "1"))).layout(t, ""), "oci:")
	path := filepath.Join(t.TempDir(), "a.tar")
	writeFile(t, path, string(layerTar(t, symlink("index.json", layout+"/index.json"), symlink("blobs", layout+"/blobs"))))
	wantLoadError(t, "oci-archive:"+path, "is neither a file nor a directory")

	writeFile(t, path, string(layerTar(t, entry("oci-layout", "{}"))))
	wantLoadError(t, "oci-archive:"+path, "reading "+path+": ")
}

func wantLoadError(t *testing.T, name, want string) {
	t.Helper()
	st, o := newStore(t), hermetic(t)
	ended := make(chan error, 1)
	go func() {
		_, err := Load(t.Context(), st, name, o)
		ended <- err
	}()

	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: it waits", name)
	}
}

// TestLoadFetchesNothing loads an image whose manifest says that its layer is at a URL.
func TestLoadFetchesNothing(t *testing.T) {
	reg := newFakeRegistry(t)
	img := makeImage(t, layerTar(t, entry("one", "1")))
	img.manifest.Layers[0].MediaType = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
	img.manifest.Layers[0].URLs = []string{"http://" + reg.host + "/v2/layer"}
	layout := img.layout(t, "")
	if err := os.Remove(filepath.Join(strings.TrimPrefix(layout, "oci:"), "blobs/sha256", img.manifest.Layers[0].Digest.Encoded())); err != nil {
		t.Fatal(err)
	}
	wantLoadError(t, layout, "no such file")
	if n := reg.count("/"); n != 0 {
		t.Errorf("%d requests", n)
	}
}
