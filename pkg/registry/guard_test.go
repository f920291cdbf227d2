package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	cs "go.podman.io/storage"
)

// TestPullRefusesLayers pulls images whose second layer is as in layerCases.
func TestPullRefusesLayers(t *testing.T) {
	base := layerTar(t, dirEntry("etc"), entry("etc/secret", "x"))
	for _, tc := range layerCases {
		t.Run(tc.name, func(t *testing.T) {
			st, o := newStore(t), hermetic(t)
			img := makeImage(t, base, layerTar(t, tc.entries...))
			_, _, err := Pull(t.Context(), st, img.layout(t, "localhost/x:1"), PullAlways, o)
			if err != nil && strings.Contains(err.Error(), "duplicates of file paths") {
				return // the library takes no name twice, whatever it is
			}
			if tc.reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if _, ok := errors.AsType[*RefusedError](err); !ok {
				t.Fatalf("got %v, want a refusal", err)
			}
			wantOnlyLayer(t, st, digest.FromBytes(base))
		})
	}
}

// wantOnlyLayer checks that a refused image left nothing but the layer below
// the refused one.
func wantOnlyLayer(t *testing.T, st cs.Store, want digest.Digest) {
	t.Helper()
	images, err := st.Images()
	if err != nil || len(images) > 0 {
		t.Errorf("images after the refusal: %v (%v)", images, err)
	}
	layers, err := st.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		if l.UncompressedDigest != want {
			t.Errorf("layer %s was kept after the refusal", l.UncompressedDigest)
		}
	}
}

func TestPullRefusesLies(t *testing.T) {
	other := digest.FromString("another layer")
	for _, tc := range []struct {
		name   string
		spoil  func(t *testing.T, img *testImage)
		reason string
	}{
		{"diff_id of other content", func(t *testing.T, img *testImage) { img.config.RootFS.DiffIDs[1] = other; img.seal(t) }, other.String()},
		{"diff_ids exchanged", func(t *testing.T, img *testImage) {
			ids := img.config.RootFS.DiffIDs
			ids[0], ids[1] = ids[1], ids[0]
			img.seal(t)
		}, "DiffID"},
		{"one diff_id too few", func(t *testing.T, img *testImage) {
			img.config.RootFS.DiffIDs = img.config.RootFS.DiffIDs[:1]
			img.config.History = img.config.History[:1]
			img.seal(t)
		}, ""},
		{"one diff_id too many", func(t *testing.T, img *testImage) {
			img.config.RootFS.DiffIDs = append(img.config.RootFS.DiffIDs, other)
			img.seal(t)
		}, ""},
		{"no diff_ids", func(t *testing.T, img *testImage) { img.config.RootFS.DiffIDs = nil; img.seal(t) }, "layers"},
		{"negative size", func(_ *testing.T, img *testImage) { img.manifest.Layers[0].Size = -5 }, "size"},
		{"size too large", func(_ *testing.T, img *testImage) { img.manifest.Layers[0].Size++ }, ""},
		{"compressed twice", func(t *testing.T, img *testImage) {
			img.config.RootFS.DiffIDs[1] = digest.FromBytes(img.layers[1])
			img.layers[1] = gzipped(t, img.layers[1])
			img.seal(t)
		}, ""},
		{"layer cut", func(t *testing.T, img *testImage) {
			img.layers[1] = img.layers[1][:len(img.layers[1])-20]
			img.seal(t)
		}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			st, o := newStore(t), hermetic(t)
			o.Retries = -1
			img := makeImage(t, layerTar(t, entry("a", "1")), layerTar(t, entry("b", strings.Repeat("b", 1<<16))))
			tc.spoil(t, img)
			_, _, err := Pull(t.Context(), st, img.layout(t, "localhost/x:1"), PullAlways, o)
			if err == nil || !strings.Contains(err.Error(), tc.reason) {
				t.Errorf("got %v, want an error with %q", err, tc.reason)
			}
			if images, err := st.Images(); err != nil || len(images) > 0 {
				t.Errorf("images after the refusal: %v (%v)", images, err)
			}
		})
	}
}

// TestCheckedReaderEarlyEnd makes sure that nothing waits for a stream that
// nobody reads on.
func TestCheckedReaderEarlyEnd(t *testing.T) {
	data := layerTar(t, entry("a", strings.Repeat("a", 1<<20)))
	r := newCheckedReader(t.Context(), strings.NewReader(string(data)), 0, nil)
	if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if err := <-r.verdict; err == nil {
		t.Error("half a layer was accepted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	r = newCheckedReader(ctx, strings.NewReader(string(data)), 0, nil)
	cancel()
	if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
		t.Errorf("reading after the end of the context: %v", err)
	}
}

// TestPullTwin pulls an image that the store has with layers of other IDs, as an image that was built has: it gets the
// name, unless its layers differ.
func TestPullTwin(t *testing.T) {
	img := makeImage(t, layerTar(t, entry("one", "1")), layerTar(t, entry("two", "2")))
	other := makeImage(t, layerTar(t, entry("one", "1")), layerTar(t, entry("two", "3")))
	for _, tc := range []struct {
		name string
		tars [][]byte
		err  string
	}{
		{name: "same", tars: [][]byte{layerTar(t, entry("one", "1")), layerTar(t, entry("two", "2"))}},
		{name: "other layer", tars: [][]byte{layerTar(t, entry("one", "1")), layerTar(t, entry("two", "3"))}, err: "top layer"},
		{name: "layer less", tars: [][]byte{layerTar(t, entry("two", "2"))}, err: "top layer"},
		{name: "layer more", tars: [][]byte{nil, layerTar(t, entry("one", "1")), layerTar(t, entry("two", "2"))}, err: "top layer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			st, o, f := newStore(t), insecure(t), newFakeRegistry(t)
			f.put(t, "img", "1", img)
			f.put(t, "img", "2", other)
			var top string
			for _, data := range tc.tars {
				if data == nil {
					data = layerTar(t, entry("zero", "0"))
				}
				layer, _, err := st.PutLayer("", top, nil, "", false, nil, bytes.NewReader(data))
				if err != nil {
					t.Fatal(err)
				}
				top = layer.ID
			}
			config := img.configJSON(t)
			built := cs.ImageOptions{BigData: []cs.ImageBigDataOption{{Key: "sha256:" + img.id(t), Data: config, Digest: digest.FromBytes(config)}}}
			if _, err := st.CreateImage(img.id(t), []string{"localhost/built:latest"}, top, "", &built); err != nil {
				t.Fatal(err)
			}
			id, found, err := Pull(t.Context(), st, f.host+"/img:1", PullMissing, o)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("%v, want %q", err, tc.err)
				}
				return
			}
			if err != nil || id != img.id(t) || found != f.host+"/img:1" {
				t.Fatalf("%s, %s, %v", id, found, err)
			}
			got, err := st.Image(f.host + "/img:1")
			if err != nil {
				t.Fatal(err)
			}
			if got.ID != id || got.TopLayer != top || !slices.Contains(got.Names, "localhost/built:latest") {
				t.Errorf("the store has %+v", got)
			}
			if again, _ := mustPull(t, st, f.host+"/img:1", PullAlways, o); again != id {
				t.Errorf("pulled again: %s", again)
			}
		})
	}
}
