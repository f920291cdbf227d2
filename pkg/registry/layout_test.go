package registry

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
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
	got, err := st.Image(img.id(t))
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
			if images, err := st.Images(); err != nil || len(images) > 0 {
				t.Errorf("left: %v, %v", images, err)
			}
		})
	}
}

func TestLoadBounds(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "index.json"), strings.Repeat(" ", maxDocument+1))
	if _, err := LoadLayout(t.Context(), newStore(t), dir, "", hermetic(t)); err == nil || !strings.Contains(err.Error(), "has more than") {
		t.Error(err)
	}
	_, err := LoadLayout(t.Context(), newStore(t), t.TempDir(), "", hermetic(t))
	if !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
