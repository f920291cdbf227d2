package transfer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	cs "go.podman.io/storage"
	"go.podman.io/storage/pkg/reexec"

	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/images/imagetest"
	"codeberg.org/rbuild/rbuild/internal/images/spool"
	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
)

func TestMain(m *testing.M) {
	// The library unpacks layers in a process of its own, started from this
	// binary.
	if reexec.Init() {
		return
	}
	nstest.Main(m)
}

// newStore opens an empty store that ends with the test.
func newStore(t *testing.T) *containers.Store {
	t.Helper()
	nstest.Need(t)
	dir := t.TempDir()
	st, err := containers.Open(containers.Options{
		GraphRoot: filepath.Join(dir, "root"),
		RunRoot:   filepath.Join(dir, "run"),
		Driver:    "overlay",
	})
	if err != nil {
		t.Fatalf("opening a store: %v", err)
	}
	lib := library(t, st)
	t.Cleanup(func() {
		if _, err := lib.Shutdown(true); err != nil {
			t.Errorf("closing the store: %v", err)
		}
	})

	return st
}

// library returns the library's own handle of a store that is open.
func library(t *testing.T, st *containers.Store) cs.Store {
	t.Helper()
	lib, err := cs.GetStore(cs.StoreOptions{GraphRoot: st.GraphRoot(), RunRoot: st.RunRoot(), GraphDriverName: "overlay"})
	if err != nil {
		t.Fatal(err)
	}
	return lib
}

// hermetic are options that do not depend on the machine's configuration.
func hermetic(t *testing.T) Options {
	t.Helper()
	dir := t.TempDir()
	// What the library keeps for the user it keeps in the test's directory; the
	// second variable is how the builder says that its uid 0 is not root.
	t.Setenv("HOME", dir)
	t.Setenv("_CONTAINERS_ROOTLESS_UID", "1000")
	t.Setenv("XDG_RUNTIME_DIR", dir)
	for _, name := range []string{"XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "DOCKER_CONFIG"} {
		t.Setenv(name, "")
	}
	conf := filepath.Join(dir, "registries.conf")
	writeFile(t, conf, "unqualified-search-registries = []\n[aliases]\n\"aliased\" = \"registry.example/some/aliased\"\n")
	policy := filepath.Join(dir, "policy.json")
	writeFile(t, policy, `{"default":[{"type":"insecureAcceptAnything"}]}`)
	temp := filepath.Join(dir, "spool")
	if err := os.Mkdir(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		left, err := os.ReadDir(temp)
		left = slices.DeleteFunc(left, func(e os.DirEntry) bool { return e.Name() == spool.Master })
		if err != nil || len(left) > 0 {
			t.Errorf("left in the directory for temporary files: %v (%v)", left, err)
		}
	})

	return Options{
		Names:   images.Names{RegistriesConf: conf, RegistriesConfDir: filepath.Join(dir, "registries.conf.d")},
		Access:  Access{AuthFile: filepath.Join(dir, "auth.json")},
		Checks:  Checks{SignaturePolicy: policy},
		Retry:   Retry{RetryDelay: time.Millisecond},
		TempDir: temp,
	}
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Short names for the tables of these tests.
var (
	entry, dirEntry, symlink = imagetest.File, imagetest.Dir, imagetest.Symlink
	layerTar, gzipped        = imagetest.Tar, imagetest.Gzip
)

// testImage is an image as documents; its fields may be spoilt before use.
type testImage struct {
	layers   [][]byte // compressed
	config   ocispec.Image
	manifest ocispec.Manifest
}

func makeImage(t *testing.T, tars ...[]byte) *testImage {
	t.Helper()
	img := &testImage{}
	created := time.Unix(1700000000, 0).UTC()
	img.config.Created = &created
	img.config.Architecture, img.config.OS = runtime.GOARCH, runtime.GOOS
	img.config.RootFS.Type = "layers"
	for _, data := range tars {
		img.config.RootFS.DiffIDs = append(img.config.RootFS.DiffIDs, digest.FromBytes(data))
		img.config.History = append(img.config.History, ocispec.History{Created: &created, CreatedBy: "test"})
		img.layers = append(img.layers, gzipped(t, data))
	}

	img.seal(t)
	return img
}

// seal makes the manifest anew from the layers and the config.
func (img *testImage) seal(t *testing.T) {
	t.Helper()
	config := img.configJSON(t)
	img.manifest = ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))},
		Layers:    []ocispec.Descriptor{},
	}

	for _, data := range img.layers {
		img.manifest.Layers = append(img.manifest.Layers, ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(data), Size: int64(len(data)),
		})
	}
}

func (img *testImage) configJSON(t *testing.T) []byte { return mustJSON(t, img.config) }

func (img *testImage) id(t *testing.T) string {
	return digest.FromBytes(img.configJSON(t)).Encoded()
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// blobs are all documents of the image by digest, without the manifest.
func (img *testImage) blobs(t *testing.T) map[digest.Digest][]byte {
	config := img.configJSON(t)
	all := map[digest.Digest][]byte{digest.FromBytes(config): config}
	for _, data := range img.layers {
		all[digest.FromBytes(data)] = data
	}
	return all
}

// layout writes the image as an OCI layout and returns its name with the
// transport. An empty tag leaves it unnamed.
func (img *testImage) layout(t *testing.T, tag string) string {
	t.Helper()
	dir := t.TempDir()
	put := func(data []byte) {
		writeFile(t, filepath.Join(dir, "blobs/sha256", digest.FromBytes(data).Encoded()), string(data))
	}
	if err := os.MkdirAll(filepath.Join(dir, "blobs/sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, data := range img.blobs(t) {
		put(data)
	}
	manifest := mustJSON(t, img.manifest)
	put(manifest)
	descriptor := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(manifest), Size: int64(len(manifest))}
	name := "oci:" + dir
	if tag != "" {
		descriptor.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
		name += ":" + tag
	}

	writeFile(t, filepath.Join(dir, "oci-layout"), `{"imageLayoutVersion":"1.0.0"}`)
	writeFile(t, filepath.Join(dir, "index.json"), string(mustJSON(t, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{descriptor},
	})))

	return name
}
