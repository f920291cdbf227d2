package transfer

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"
	cs "go.podman.io/storage"

	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/images/imagetest"
	"codeberg.org/rbuild/rbuild/internal/images/layercheck"
)

// TestPullRefusesLayers pulls images whose second layer is as in imagetest.LayerCases.
func TestPullRefusesLayers(t *testing.T) {
	base := layerTar(t, dirEntry("etc"), entry("etc/secret", "x"))
	for _, tc := range imagetest.LayerCases() {
		t.Run(tc.Name, func(t *testing.T) {
			st, o := newStore(t), hermetic(t)
			img := makeImage(t, base, layerTar(t, tc.Entries...))
			_, _, err := Pull(t.Context(), st, img.layout(t, "localhost/x:1"), PullAlways, o)
			if err != nil && strings.Contains(err.Error(), "duplicates of file paths") {
				return // the library takes no name twice, whatever it is
			}
			if tc.Reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}

			if _, ok := errors.AsType[*layercheck.RefusedError](err); !ok {
				t.Fatalf("got %v, want a refusal", err)
			}
			wantOnlyLayer(t, st, digest.FromBytes(base))
		})
	}
}

// wantOnlyLayer checks that a refused image left nothing but the layer below the refused layer.
func wantOnlyLayer(t *testing.T, st *containers.Store, want digest.Digest) {
	t.Helper()
	images, err := library(t, st).Images()
	if err != nil || len(images) > 0 {
		t.Errorf("images after the refusal: %v (%v)", images, err)
	}
	layers, err := library(t, st).Layers()
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
			if images, err := library(t, st).Images(); err != nil || len(images) > 0 {
				t.Errorf("images after the refusal: %v (%v)", images, err)
			}
		})
	}
}

// TestPullTwin pulls an image whose config an image of the store has already: what is stored does
// not change, and the name that was pulled has the manifest of the registry.
func TestPullTwin(t *testing.T) {
	img := makeImage(t, layerTar(t, entry("one", "1")), layerTar(t, entry("two", "2")))
	for _, tc := range []struct {
		name   string
		tars   [][]byte
		shared bool // the record of the pulled image shares the layers of the stored one
	}{
		{name: "same", tars: [][]byte{layerTar(t, entry("one", "1")), layerTar(t, entry("two", "2"))}, shared: true},
		{name: "other layer", tars: [][]byte{layerTar(t, entry("one", "1")), layerTar(t, entry("two", "3"))}},
		{name: "layer less", tars: [][]byte{layerTar(t, entry("two", "2"))}},
		{name: "layer more", tars: [][]byte{layerTar(t, entry("zero", "0")), layerTar(t, entry("one", "1")), layerTar(t, entry("two", "2"))}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			st, o, f := newStore(t), insecure(t), newFakeRegistry(t)
			sum := f.put(t, "img", "1", img)
			top, built := putBuilt(t, st, img, tc.tars)
			id, found, err := Pull(t.Context(), st, f.host+"/img:1", PullMissing, o)
			if err != nil || id != images.DerivedID(digest.FromBytes(img.configJSON(t)), sum) || found != f.host+"/img:1" {
				t.Fatalf("%s, %s, %v", id, found, err)
			}
			wantManifest(t, st, "localhost/built:latest", built)
			wantManifest(t, st, f.host+"/img:1", mustJSON(t, img.manifest))
			got, err := library(t, st).Image(id)
			if err != nil || (got.TopLayer == top) != tc.shared {
				t.Errorf("the topmost layer is %s, that of the stored image is %s (%v)", got.TopLayer, top, err)
			}
			if again, _ := mustPull(t, st, f.host+"/img:1", PullAlways, o); again != id {
				t.Errorf("pulled again: %s", again)
			}
			if pinned := mustLookup(t, st, f.host+"/img@"+sum.String(), o); pinned != id {
				t.Errorf("by digest: %s", pinned)
			}
			if _, _, err := images.Resolve(st, "sha256:"+img.id(t), o.Names); err != nil {
				t.Errorf("by the digest of the config: %v", err)
			}
			named := []reference.Named{mustParse(t, f.host+"/img:1")}
			_, _, other, err := st.FindFor(named, ocispec.Platform{OS: "linux", Architecture: "other"})
			if !errors.Is(err, images.ErrNotFound) || other != "linux/"+runtime.GOARCH {
				t.Errorf("the image for another platform is found: %q, %v", other, err)
			}
		})
	}
}

// TestLoadTwin loads an image from a layout whose config an image of the store has already.
func TestLoadTwin(t *testing.T) {
	img := makeImage(t, layerTar(t, entry("one", "1")))
	st, o := newStore(t), insecure(t)
	_, built := putBuilt(t, st, img, [][]byte{layerTar(t, entry("one", "1"))})
	want := images.DerivedID(digest.FromBytes(img.configJSON(t)), digest.FromBytes(mustJSON(t, img.manifest)))
	for range 2 {
		id, err := Load(t.Context(), st, img.layout(t, "x"), o)
		if err != nil || id != want {
			t.Fatalf("%s, %v, want %s", id, err, want)
		}
	}

	wantManifest(t, st, "localhost/built:latest", built)
	wantManifest(t, st, want, mustJSON(t, img.manifest))
}

// TestPullPushed pulls an image that was pushed from this store: it is the image that was pushed.
func TestPullPushed(t *testing.T) {
	img := makeImage(t, layerTar(t, entry("one", "1")))
	st, o, reg := newStore(t), insecure(t), newRealRegistry(t, false, false)
	_, built := putBuilt(t, st, img, [][]byte{layerTar(t, entry("one", "1"))})
	name := reg.host + "/x:1"
	digests := map[string]digest.Digest{}
	for tag, compression := range map[string]string{"1": "gzip", "2": "zstd"} {
		pushed, err := Push(t.Context(), st, "localhost/built", "docker://"+reg.host+"/x:"+tag, PushOptions{Options: o, CompressionFormat: compression})
		if err != nil {
			t.Fatal(err)
		}
		digests[tag] = pushed.Digest
	}

	stored, err := library(t, st).Image("localhost/built:latest")
	if err != nil {
		t.Fatal(err)
	}
	wantManifest(t, st, "localhost/built:latest", built)
	content, err := st.ReadImage(stored.ID)
	if err != nil {
		t.Fatal(err)
	}
	repoDigests := images.RepoDigests(content.Origins)
	for tag, want := range digests {
		if got := st.Digest(stored.ID, reg.host+"/x:"+tag); got != want {
			t.Errorf("%s has the digest %s, was pushed with %s", tag, got, want)
		}
		if pinned := reg.host + "/x@" + want.String(); !slices.Contains(repoDigests, pinned) {
			t.Errorf("%s is none of %v", pinned, repoDigests)
		}
	}

	if len(repoDigests) != 2 {
		t.Errorf("digests of registries: %v", repoDigests)
	}
	if id, _ := mustPull(t, st, name, PullAlways, o); id != stored.ID {
		t.Errorf("pulled back: %s, want %s", id, stored.ID)
	}
	wantManifest(t, st, "localhost/built:latest", built)
	if pinned := mustLookup(t, st, reg.host+"/x@"+digests["1"].String(), o); pinned != stored.ID {
		t.Errorf("by digest: %s", pinned)
	}
	if _, err := library(t, st).DeleteImage(stored.ID, true); err != nil {
		t.Fatal(err)
	}
	if id, _ := mustPull(t, st, name, PullAlways, o); id != img.id(t) {
		t.Errorf("pulled anew: %s, want %s", id, img.id(t))
	}
	wantManifestDigest(t, st, name, digests["1"])
}

// putBuilt stores an image as a build does: with the config of img, layers of the tars under IDs
// that no pull gives, and a manifest without compression.
func putBuilt(t *testing.T, st *containers.Store, img *testImage, tars [][]byte) (top string, manifest []byte) {
	t.Helper()
	m := img.manifest
	m.Layers = nil
	for _, data := range tars {
		layer, _, err := library(t, st).PutLayer("", top, nil, "", false, nil, bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		top = layer.ID
	}

	for _, d := range img.config.RootFS.DiffIDs {
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: 1})
	}
	config, raw := img.configJSON(t), mustJSON(t, m)
	key := cs.ImageDigestManifestBigDataNamePrefix + "-" + digest.FromBytes(raw).String()
	options := cs.ImageOptions{Digest: digest.FromBytes(raw), BigData: []cs.ImageBigDataOption{
		{Key: "sha256:" + img.id(t), Data: config, Digest: digest.FromBytes(config)},
		{Key: key, Data: raw, Digest: digest.FromBytes(raw)},
		{Key: cs.ImageDigestBigDataKey, Data: raw, Digest: digest.FromBytes(raw)},
	}}

	if _, err := library(t, st).CreateImage(img.id(t), []string{"localhost/built:latest"}, top, "", &options); err != nil {
		t.Fatal(err)
	}

	return top, raw
}

func mustParse(t *testing.T, name string) reference.Named {
	t.Helper()
	named, err := reference.ParseNamed(name)
	if err != nil {
		t.Fatal(err)
	}
	return named
}

func wantManifest(t *testing.T, st *containers.Store, name string, want []byte) {
	t.Helper()
	wantManifestDigest(t, st, name, digest.FromBytes(want))
}

func wantManifestDigest(t *testing.T, st *containers.Store, name string, want digest.Digest) {
	t.Helper()
	raw, err := library(t, st).ImageBigData(name, cs.ImageDigestBigDataKey)
	if got := digest.FromBytes(raw); err != nil || got != want {
		t.Errorf("%s has the manifest %s, want %s (%v)", name, got, want, err)
	}
}

// TestMaxLayers pulls an image with more layers than are allowed: it is refused before a layer is
// asked for.
func TestMaxLayers(t *testing.T) {
	img := makeImage(t, layerTar(t, entry("one", "1")), layerTar(t, entry("two", "2")))
	for _, tc := range []struct {
		name    string
		put     func(f *fakeRegistry) // as img:1
		most    int
		refused bool
	}{
		{name: "enough", put: func(f *fakeRegistry) { f.put(t, "img", "1", img) }, most: 2},
		{name: "no limit", put: func(f *fakeRegistry) { f.put(t, "img", "1", img) }},
		{name: "too many", put: func(f *fakeRegistry) { f.put(t, "img", "1", img) }, most: 1, refused: true},
		{name: "too many in a list", most: 1, refused: true, put: func(f *fakeRegistry) {
			f.putIndex(t, "img", "1", map[string]*testImage{"linux/other": makeImage(t), "linux/" + runtime.GOARCH: img})
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			st, o, f := newStore(t), insecure(t), newFakeRegistry(t)
			tc.put(f)
			o.MaxLayers = tc.most
			_, _, err := Pull(t.Context(), st, f.host+"/img:1", PullMissing, o)
			refused := (*LayersError)(nil)
			if errors.As(err, &refused) != tc.refused || !tc.refused && err != nil {
				t.Fatalf("%v; refused: want %t", err, tc.refused)
			}
			if !tc.refused {
				return
			}

			if refused.Have != 2 || refused.Most != 1 || !strings.Contains(refused.Name, "/img:1") {
				t.Errorf("%+v", refused)
			}
			if n := f.count("/blobs/" + img.manifest.Layers[0].Digest.String()); n > 0 {
				t.Errorf("%d requests for a layer", n)
			}
		})
	}
}
