package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"

	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/images/imagetest"
	"codeberg.org/rbuild/rbuild/internal/images/spool"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// newImage is an image without layers for an architecture.
func newImage(t *testing.T, arch, author string, names ...string) commit.Documents {
	t.Helper()
	config, err := json.Marshal(ocispec.Image{Author: author, Platform: ocispec.Platform{OS: "linux", Architecture: arch}})
	if err != nil {
		t.Fatal(err)
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
	m.SchemaVersion = 2
	m.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return commit.Documents{Config: config, Manifest: raw, Names: names}
}

func openTestLayout(t *testing.T) *Layout {
	t.Helper()
	l, err := Open(filepath.Join(t.TempDir(), "layout"), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// wantManifest looks an image up and compares the manifest.
func wantManifest(t *testing.T, l *Layout, ref, want string) {
	t.Helper()
	img, err := l.ResolveImage(ref)
	if err != nil {
		t.Errorf("%s: %v", ref, err)
		return
	}
	content, err := l.ReadImage(img.ID)
	if err != nil || string(content.Manifest) != want {
		t.Errorf("%s is %s (%v)", ref, content.Manifest, err)
	}
}

// TestLayoutNames: a name belongs to the image that got the name last.
func TestLayoutNames(t *testing.T) {
	l := openTestLayout(t)
	first, second := newImage(t, "amd64", "first", "localhost/a:1", "localhost/b:1"), newImage(t, "amd64", "second", "localhost/a:1")
	var ids []string
	for _, n := range []commit.Documents{first, second, first} {
		n.Names = n.Names[:1]
		if len(ids) == 0 {
			n = first
		}
		id, _, err := l.PutImage(n)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}

	for name, want := range map[string]string{"localhost/a:1": ids[2], "localhost/b:1": ids[0], ids[0][:8]: ids[0]} {
		img, err := l.ResolveImage(name)
		if err != nil || img.ID != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}

	if _, err := l.ResolveImage("localhost/c:latest"); !errors.Is(err, images.ErrNotFound) {
		t.Errorf("missing: %v", err)
	}
	config, layers, err := l.Image(ids[1])
	if err != nil || len(layers) > 0 || !strings.Contains(string(config), "second") {
		t.Errorf("an image without a name: %s, %v, %v", config, layers, err)
	}
}

// TestLayoutSameConfig puts images with one config and different manifests: each has an ID of its
// own, which stays.
func TestLayoutSameConfig(t *testing.T) {
	l := openTestLayout(t)
	one := newImage(t, "amd64", "me", "localhost/a:1")
	two := one
	two.Manifest = bytes.Replace(one.Manifest, []byte(`"layers":[]`), []byte(`"layers":[],"annotations":{"a":"b"}`), 1)
	two.Names = []string{"localhost/b:1"}
	config := digest.FromBytes(one.Config)
	ids := []string{config.Encoded(), images.DerivedID(config, digest.FromBytes(two.Manifest))}
	for i, n := range []commit.Documents{one, two, one, two} {
		id, raw, err := l.PutImage(n)
		if err != nil || id != ids[i%2] || !bytes.Equal(raw, n.Manifest) {
			t.Fatalf("put %d: %s, want %s: %s, %v", i+1, id, ids[i%2], raw, err)
		}
	}

	for name, want := range map[string]string{
		"localhost/a:1": string(one.Manifest), ids[0]: string(one.Manifest),
		"localhost/b:1": string(two.Manifest), ids[1]: string(two.Manifest),
	} {
		wantManifest(t, l, name, want)
	}

	other := newImage(t, "amd64", "other", "localhost/b:1")
	if _, _, err := l.PutImage(other); err != nil {
		t.Fatal(err)
	}
	wantManifest(t, l, ids[1], string(two.Manifest)) // has lost its name
}

// Names of pulled images stand for one image of each platform.
func TestLayoutPlatforms(t *testing.T) {
	l := openTestLayout(t)
	for _, arch := range []string{"arm64", "s390x", "arm64"} {
		n := newImage(t, arch, "", "localhost/a:1")
		if _, _, err := l.PutImage(n); err != nil {
			t.Fatal(err)
		}
	}

	name, err := reference.ParseNamed("localhost/a:1")
	if err != nil {
		t.Fatal(err)
	}
	names := []reference.Named{name}
	_, found, other, err := l.FindFor(names, ocispec.Platform{OS: "linux", Architecture: "amd64"})
	if diff := cmp.Diff([]string{"localhost/a:1", "linux/arm64"}, []string{found, other}); diff != "" || !errors.Is(err, images.ErrNotFound) {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, _, _, err := l.FindFor(names, ocispec.Platform{OS: "linux", Architecture: "arm64"}); err != nil {
		t.Error(err)
	}
}

func TestForget(t *testing.T) {
	named := func(d, name string) ocispec.Descriptor {
		return ocispec.Descriptor{Digest: digest.Digest(d), Annotations: map[string]string{ocispec.AnnotationRefName: name}}
	}
	list := []ocispec.Descriptor{{Digest: "twice"}, {Digest: "named"}, named("named", "n"), {Digest: "twice"}}
	if diff := cmp.Diff([]ocispec.Descriptor{named("named", "n"), {Digest: "twice"}}, forget(list)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	list = nil
	for i := range maxUnnamed + 10 {
		list = append(list, ocispec.Descriptor{Digest: digest.Digest(fmt.Sprint(i))})
	}
	if got := forget(list); len(got) != maxUnnamed || got[0].Digest != "10" {
		t.Errorf("%d, the first %s", len(got), got[0].Digest)
	}
}

func TestLayoutConcurrent(t *testing.T) {
	l := openTestLayout(t)
	var all sync.WaitGroup
	const count = 8
	for i := range count {
		all.Go(func() {
			if _, _, err := l.PutImage(newImage(t, "amd64", fmt.Sprint(i), fmt.Sprintf("localhost/n:%d", i))); err != nil {
				t.Error(err)
			}
		})
	}

	all.Wait()
	index, err := l.index()
	if err != nil || len(index.Manifests) != count {
		t.Errorf("%d images: %v", len(index.Manifests), err)
	}
	left, err := os.ReadDir(l.tmp)
	for _, e := range left {
		if e.Name() != spool.Master {
			t.Errorf("left: %s, %v", e.Name(), err)
		}
	}
}

func TestLayoutSpoiled(t *testing.T) {
	l := openTestLayout(t)
	id, _, err := l.PutImage(newImage(t, "amd64", "me", "localhost/a:1"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(l.blobs(), id)
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Image(id); err == nil || !strings.Contains(err.Error(), "does not have the digest") {
		t.Error(err)
	}
}

// A layer is believed only when it has been read to its end.
func TestLayoutLayer(t *testing.T) {
	honest := imagetest.Tar(t, imagetest.File("f", "abc"))
	hostile := imagetest.Tar(t, imagetest.File("../f", ""))
	for _, tc := range []struct {
		name    string
		content []byte // of the tar
		want    digest.Digest
		size    int64  // that the manifest gives it, more than it has
		spoil   bool   // the file is not what its name says
		err     string // empty: none
	}{
		{name: "honest", content: honest},
		{name: "another tar", content: honest, want: digest.FromString("x"), err: "the blob of layer sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881 has another digest"},
		{name: "no digest", content: honest, want: "sha256:x", err: `the config gives it the digest "sha256:x"`},
		{name: "another size", content: honest, size: 1, err: "the manifest says"},
		{name: "another file", content: honest, spoil: true, err: "has another digest"},
		{name: "hostile", content: hostile, err: `has ".." in its name`},
		{name: "half", content: honest[:514], err: "unexpected EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := openTestLayout(t)
			packed := imagetest.Gzip(t, tc.content)
			blob := ocispec.Descriptor{Digest: digest.FromBytes(packed), Size: int64(len(packed)) + tc.size}
			if tc.spoil {
				packed[9] ^= 1 // the operating system, which nothing verifies
			}
			if err := os.WriteFile(filepath.Join(l.blobs(), blob.Digest.Encoded()), packed, 0o600); err != nil {
				t.Fatal(err)
			}
			want := tc.want
			if want == "" {
				want = digest.FromBytes(tc.content)
			}
			err := readLayer(t, l, blob, want)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("%v, want %q", err, tc.err)
			}
		})
	}
}

func readLayer(t *testing.T, l *Layout, blob ocispec.Descriptor, diffID digest.Digest) error {
	r, err := l.Layer(t.Context(), blob, diffID)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}
