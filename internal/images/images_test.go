package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestVerify: the layers of an image have to be the layers of the config, in number and order. A
// layer without a DiffID is accepted.
func TestVerify(t *testing.T) {
	one, two := digest.FromString("1"), digest.FromString("2")
	config, err := json.Marshal(ocispec.Image{RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{one, two}}})
	if err != nil {
		t.Fatal(err)
	}

	gone := errors.New("a layer is missing")
	for _, tc := range []struct {
		name    string
		content Content
		want    string // a part of the error; "": none
	}{
		{"same", Content{Layers: []Layer{{DiffID: one}, {DiffID: two}}}, ""},
		{"pulled in parts", Content{Layers: []Layer{{}, {DiffID: two}}}, ""},
		{"layer less", Content{Layers: []Layer{{DiffID: one}}}, "the config lists 2 layers, the image has 1"},
		{"order", Content{Layers: []Layer{{DiffID: two}, {DiffID: one}}}, "layer 1 has the digest " + two.String()},
		{"missing", Content{LayersErr: gone}, gone.Error()},
		{"bad config", Content{Config: []byte("[]")}, "reading the config of image localhost/x:1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.content.Config == nil {
				tc.content.Config = config
			}
			err := tc.content.Verify("localhost/x:1")
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
			if (strings.Contains(tc.want, "lists") || strings.Contains(tc.want, "digest")) && !errors.Is(err, ErrOtherLayers) {
				t.Errorf("%v is not ErrOtherLayers", err)
			}
		})
	}
}

// TestDigest: the digest in the registry of the name, else in the same repository, else of the last
// transfer, else as stored.
func TestDigest(t *testing.T) {
	d := func(text string) digest.Digest { return digest.FromString(text) }
	origins := []Origin{
		{"registry.example/last:1", d("last")}, {"registry.example/a:1", d("a1")}, {"registry.example/a:2", d("a2")},
	}
	for name, want := range map[string]string{
		"registry.example/a:1": "a1", "registry.example/a:2": "a2", "registry.example/a:3": "a1", "registry.example/b:1": "last", "": "last",
	} {
		if got := Digest(origins, name, d("stored")); got != d(want) {
			t.Errorf("%q: not the digest %s", name, want)
		}
	}
	if got := Digest(nil, "registry.example/a:1", d("stored")); got != d("stored") {
		t.Errorf("without origins: %s", got)
	}

	want := []string{"registry.example/last@" + d("last").String(), "registry.example/a@" + d("a1").String(), "registry.example/a@" + d("a2").String()}
	if diff := cmp.Diff(want, RepoDigests(append(origins, origins[0]))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := RepoDigests(nil); got == nil || len(got) > 0 {
		t.Errorf("without origins: %#v", got)
	}
}

// TestDerivedID: the ID follows from both documents, and looks like an ID.
func TestDerivedID(t *testing.T) {
	a, b := digest.FromString("a"), digest.FromString("b")
	ids := map[string]bool{}
	for _, id := range []string{DerivedID(a, b), DerivedID(b, a), DerivedID(a, a), DerivedID(a, b)} {
		ids[id] = true
		if _, ok := CompleteID(id); !ok {
			t.Errorf("%s is no ID", id)
		}
	}
	if len(ids) != 3 {
		t.Errorf("%d different IDs", len(ids))
	}
}

func TestInUseError(t *testing.T) {
	e := &InUseError{Image: strings.Repeat("a", 64), Container: strings.Repeat("c", 64)}
	if want := "image aaaaaaaaaaaa is used by container cccccccccccc"; e.Error() != want {
		t.Error(e)
	}
	e.Mounted = true
	if !strings.HasSuffix(e.Error(), "cccccccccccc, which is mounted") {
		t.Error(e)
	}
	if got := ShortID("abc"); got != "abc" {
		t.Error(got)
	}
}

func TestPlatforms(t *testing.T) {
	p := func(arch, variant string) ocispec.Platform {
		return ocispec.Platform{OS: "linux", Architecture: arch, Variant: variant}
	}
	for _, tc := range []struct {
		is, want ocispec.Platform
		same     bool
	}{
		{p("arm64", ""), p("arm64", "v8"), true},
		{p("arm64", "v8"), p("arm64", ""), true},
		{p("arm", "v6"), p("arm", "v7"), false},
		{p("amd64", ""), p("arm64", ""), false},
	} {
		if got := SamePlatform(tc.is, tc.want); got != tc.same {
			t.Errorf("%s for %s: %t", PlatformText(tc.is), PlatformText(tc.want), got)
		}
	}
	if got := PlatformText(p("arm", "v7")) + " " + PlatformText(p("s390x", "")); got != "linux/arm/v7 linux/s390x" {
		t.Error(got)
	}
	if IsForeign(HostPlatform()) || !IsForeign(p("other", "")) {
		t.Error("the host's platform is not known")
	}
}

// fakeStore has images by the references that find them.
type fakeStore struct {
	Store
	images map[string]string // reference -> ID
}

func (s fakeStore) ResolveImage(ref string) (Image, error) {
	if id, ok := s.images[ref]; ok {
		return Image{ID: id}, nil
	}
	if ref == "docker.io/library/broken:latest" {
		return Image{}, errors.New("the store is damaged")
	}
	return Image{}, fmt.Errorf("%s: %w", ref, ErrNotFound)
}

// TestResolveNames: Resolve asks the store for full names in the order of podman, Lookup also for
// the beginning of an ID.
func TestResolveNames(t *testing.T) {
	id := strings.Repeat("ab", 32)
	st := fakeStore{images: map[string]string{
		"localhost/x:latest": "local", "docker.io/library/x:latest": "hub", "docker.io/library/y:1": "y", id: id, "abab": id,
	}}
	dir := t.TempDir()
	conf := filepath.Join(dir, "registries.conf")
	if err := os.WriteFile(conf, []byte("unqualified-search-registries = []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := Names{RegistriesConf: conf, RegistriesConfDir: dir, ShortNameAliases: filepath.Join(dir, "aliases.conf")}
	for _, tc := range []struct {
		name      string
		resolve   string // ID; "": not found
		lookup    string
		wantFound string
	}{
		{"x", "local", "local", "localhost/x:latest"},
		{"docker.io/x", "hub", "hub", "docker.io/library/x:latest"},
		{"y:1", "y", "y", "docker.io/library/y:1"},
		{"containers-storage:y:1", "y", "y", "docker.io/library/y:1"},
		{id, id, id, id},
		{"sha256:" + id, id, id, id},
		{"abab", "", id, id},
		{"ab", "", "", ""},
		{"oci:/dir", "", "", ""},
		{"nothing", "", "", ""},
	} {
		for call, want := range map[string]string{"Resolve": tc.resolve, "Lookup": tc.lookup} {
			find := Resolve
			if call == "Lookup" {
				find = Lookup
			}
			img, found, err := find(st, tc.name, n)
			if want == "" && !errors.Is(err, ErrNotFound) || want != "" && (err != nil || img.ID != want || found != tc.wantFound) {
				t.Errorf("%s %s: %s as %s, %v; want %s as %s", call, tc.name, img.ID, found, err, want, tc.wantFound)
			}
		}
	}

	if _, _, err := Lookup(st, "broken", n); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("an error of the store: %v", err)
	}
}

func TestDropTagBesideDigest(t *testing.T) {
	sum := "@sha256:" + strings.Repeat("a", 64)
	for name, want := range map[string]string{
		"x:1": "x:1", "x": "x", "x" + sum: "x" + sum, "host:5000/x:1" + sum: "host:5000/x" + sum, "X": "", "": "", sum: "",
	} {
		got, err := DropTagBesideDigest(name)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := WithContext(ctx, io.NopCloser(strings.NewReader("abc")))
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
