package containers_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"
	cs "go.podman.io/storage"

	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
)

func named(t *testing.T, name string) reference.Named {
	t.Helper()
	ref, err := reference.ParseNamed(name)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// TestResolveImage: an image is found by its full name, its ID, the beginning of its ID, and its
// digest beside a name.
func TestResolveImage(t *testing.T) {
	s := open(t)
	id, _, _ := image(t, s, "localhost/x:1")
	content, err := s.ReadImage(id)
	if err != nil {
		t.Fatal(err)
	}

	sum := "@" + digest.FromBytes(content.Manifest).String()
	wrong := "@" + digest.FromString("other").String()
	for ref, want := range map[string]bool{
		"localhost/x:1": true, id: true, id[:12]: true, id[:3]: true, "localhost/x" + sum: true,
		"localhost/x:2": false, "localhost/y:1": false, "localhost/x" + wrong: false, strings.Repeat("0", 64): false, "zzz": false,
	} {
		img, err := s.ResolveImage(ref)
		if want && (err != nil || img.ID != id || len(img.Names) != 1) {
			t.Errorf("%s: %+v, %v", ref, img, err)
		}
		if !want && !errors.Is(err, images.ErrNotFound) {
			t.Errorf("%s: %+v, %v", ref, img, err)
		}
	}
}

// TestReadImage: the documents, the layers with their sizes, and the directories of the layers.
func TestReadImage(t *testing.T) {
	s := open(t)
	id, lower, upper := image(t, s, "localhost/x:1")
	content, err := s.ReadImage(id)
	if err != nil {
		t.Fatal(err)
	}

	if digest.FromBytes(content.Config) != content.ConfigDigest || content.ConfigDigest.Encoded() != id {
		t.Errorf("the config has the digest %s, the image the ID %s", content.ConfigDigest, id)
	}
	got := []digest.Digest{content.Layers[0].DiffID, content.Layers[1].DiffID}
	if diff := cmp.Diff([]digest.Digest{lower.DiffID, upper.DiffID}, got); diff != "" {
		t.Errorf("layers (-want +got):\n%s", diff)
	}
	if content.Layers[0].Size != lower.Size || len(content.Directories) != 2 || content.Driver != "overlay" {
		t.Errorf("%+v", content)
	}
	if files, err := os.ReadDir(content.Directories[0]); err != nil || len(files) != 1 || files[0].Name() != "b" {
		t.Errorf("the topmost directory has %v (%v)", files, err)
	}
	if err := content.Verify("x"); err != nil {
		t.Error(err)
	}
	if len(content.Origins) > 0 {
		t.Errorf("an image that was built comes from %v", content.Origins)
	}
	if _, err := s.ReadImage(strings.Repeat("0", 64)); err == nil {
		t.Error("an image that the store does not have can be read")
	}
}

// TestListImages: sizes and layers of all images; the image of a container is in use.
func TestListImages(t *testing.T) {
	s := open(t)
	id, lower, upper := image(t, s, "localhost/x:1")
	if _, err := s.Storage().CreateContainer("", nil, id, "", "", nil); err != nil {
		t.Fatal(err)
	}
	all, err := s.ListImages()
	if err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}

	want := images.Usage{Size: lower.Size + upper.Size, Layers: []string{upper.ID, lower.ID}, InUse: true}
	if diff := cmp.Diff(want, all[0].Usage); diff != "" || all[0].ID != id || all[0].TopLayer != upper.ID {
		t.Errorf("%+v (-want +got):\n%s", all[0], diff)
	}

	info, err := s.Info()
	if err != nil || info.Images != 1 || info.Containers != 1 || info.Layers != 3 || info.Driver != "overlay" || info.Status == nil {
		t.Errorf("%+v, %v", info, err)
	}
}

// TestRemoveImage: a name, an image, an image that a container uses.
func TestRemoveImage(t *testing.T) {
	s := open(t)
	id, lower, upper := image(t, s, "localhost/x:1")
	if _, err := s.NameImage(id, []string{"localhost/y:1"}); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveImage(id, images.Removal{Name: "localhost/x:1"}); err != nil {
		t.Fatal(err)
	}
	img, err := s.ResolveImage(id)
	if diff := cmp.Diff([]string{"localhost/y:1"}, img.Names); err != nil || diff != "" {
		t.Errorf("names after the removal of a name: %v (-want +got):\n%s", err, diff)
	}

	c, err := s.Storage().CreateContainer("", nil, id, "", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	err = s.RemoveImage(id, images.Removal{})
	if inUse, ok := errors.AsType[*images.InUseError](err); !ok || inUse.Container != c.ID || inUse.Mounted {
		t.Errorf("with a container: %v", err)
	}
	if err := s.RemoveImage(id, images.Removal{Force: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Storage().Container(c.ID); !errors.Is(err, cs.ErrContainerUnknown) {
		t.Errorf("the container: %v", err)
	}
	if left := present(t, s, lower, upper); len(left) > 0 {
		t.Errorf("files that are left: %v", left)
	}
	if err := s.RemoveImage(id, images.Removal{}); err == nil {
		t.Error("an image can be removed twice")
	}
}

// TestFindFor: the name of an image means the image for its platform, and an image without a
// platform in its config suits all.
func TestFindFor(t *testing.T) {
	s := open(t)
	id, _, _ := image(t, s, "localhost/any:1")
	other := newTestImage(t, "other")
	other.Names = []string{"localhost/other:1"}
	if _, _, err := s.PutImage(other); err != nil {
		t.Fatal(err)
	}

	host := images.HostPlatform()
	img, found, _, err := s.FindFor([]reference.Named{named(t, "localhost/none:1"), named(t, "localhost/any:1")}, host)
	if err != nil || img.ID != id || found != "localhost/any:1" {
		t.Errorf("any platform: %s as %s, %v", img.ID, found, err)
	}
	_, found, is, err := s.FindFor([]reference.Named{named(t, "localhost/other:1")}, host)
	if !errors.Is(err, images.ErrNotFound) || found != "localhost/other:1" || is != "linux/other" {
		t.Errorf("another platform: %s, %q, %v", found, is, err)
	}
	want := ocispec.Platform{OS: "linux", Architecture: "other"}
	if _, _, _, err := s.FindFor([]reference.Named{named(t, "localhost/other:1")}, want); err != nil {
		t.Errorf("the platform of the image: %v", err)
	}
}

// TestReceiveKnown: an image without a name that the store has already is not copied again. Its
// origin is noted.
func TestReceiveKnown(t *testing.T) {
	s := open(t)
	n := newTestImage(t, "amd64")
	id, _, err := s.PutImage(n)
	if err != nil {
		t.Fatal(err)
	}

	config, manifest := digest.FromBytes(n.Config), digest.FromBytes(n.Manifest)
	in := images.Incoming{
		Platform: images.HostPlatform(),
		Registry: "registry.example/x:1",
		Peek:     func(context.Context) (digest.Digest, digest.Digest, error) { return config, manifest, nil },
	}
	r, err := s.Receive(t.Context(), in)
	if err != nil || r.Reference() != nil {
		t.Fatalf("%v, %v", r, err)
	}
	if got, err := r.Finish(); got != id || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	content, err := s.ReadImage(id)
	want := []images.Origin{{Name: "registry.example/x:1", Digest: manifest}}
	if diff := cmp.Diff(want, content.Origins); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if got := s.Digest(id, "registry.example/x:1"); got != manifest {
		t.Errorf("digest %s", got)
	}

	broken := errors.New("no connection")
	in.Peek = func(context.Context) (digest.Digest, digest.Digest, error) { return "", "", broken }
	if _, err := s.Receive(t.Context(), in); !errors.Is(err, broken) {
		t.Errorf("an error of the source: %v", err)
	}

	in.Peek = func(context.Context) (digest.Digest, digest.Digest, error) {
		return digest.FromString("new"), digest.FromString("new"), nil
	}
	r, err = s.Receive(t.Context(), in)
	if err != nil || r.Reference() == nil {
		t.Fatalf("a new image: %v, %v", r, err)
	}
	if _, err := r.Finish(); !errors.Is(err, images.ErrNotFound) {
		t.Errorf("without a copy: %v", err)
	}
}

// TestSend: an image is given to a push only with the layers of its config.
func TestSend(t *testing.T) {
	s := open(t)
	id, _, _ := image(t, s, "localhost/x:1")
	sender, err := s.Send(id)
	if err != nil || sender.Reference() == nil {
		t.Fatalf("%v, %v", sender, err)
	}

	img, err := s.ResolveImage(id)
	if err != nil {
		t.Fatal(err)
	}
	n := newTestImage(t, "amd64")
	n.TopLayer = img.TopLayer
	lie, _, err := s.PutImage(n)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Send(lie); !errors.Is(err, images.ErrOtherLayers) {
		t.Errorf("an image with other layers: %v", err)
	}
	if want := filepath.Join(s.GraphRoot(), "tmp"); s.SpoolDir() != want {
		t.Errorf("temporary files are in %s", s.SpoolDir())
	}
}

var _ images.Store = (*containers.Store)(nil)
