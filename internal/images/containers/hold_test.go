package containers_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// image records an image of two layers, with the files a and b.
func image(t *testing.T, s *containers.Store, name string) (id string, lower, upper commit.Layer) {
	t.Helper()
	below := layer(t, s, commit.Layer{}, "a", "")
	lower, upper = below, layer(t, s, below, "b", "")
	recorded, err := commit.Record(s, commit.Image{Layers: []commit.Layer{lower, upper}, Names: []string{name}, NoHistory: true})
	if err != nil {
		t.Fatal(err)
	}
	return recorded.ID, lower, upper
}

func remove(t *testing.T, s *containers.Store, id string) {
	t.Helper()
	if _, err := s.Storage().DeleteImage(id, true); err != nil {
		t.Fatal(err)
	}
}

// present returns the files of the layers that the store has.
func present(t *testing.T, s *containers.Store, layers ...commit.Layer) (files []string) {
	t.Helper()
	for _, l := range layers {
		if _, ok, err := s.LayerByName(l.ID); err != nil {
			t.Fatal(err)
		} else if !ok {
			continue
		}

		dir, err := s.Directory(l.ID)
		if err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			files = append(files, e.Name())
		}
	}

	return files
}

func holds(t *testing.T, s *containers.Store) (n int) {
	t.Helper()
	layers, err := s.Storage().Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		if strings.HasPrefix(strings.Join(l.Names, " "), "rbuild-hold-") {
			n++
		}
	}
	return n
}

func TestHold(t *testing.T) {
	for _, tc := range []struct {
		name string
		// do removes, holds and releases. l are the layers of the image.
		do   func(t *testing.T, s *containers.Store, id string, l [2]commit.Layer)
		want []string // files of the layers that are left
	}{
		{"image stays", func(t *testing.T, s *containers.Store, _ string, l [2]commit.Layer) {
			release(t, hold(t, s, l[1].ID))
		}, []string{"a", "b"}},
		{"held while removed", func(t *testing.T, s *containers.Store, id string, l [2]commit.Layer) {
			hold(t, s, l[1].ID)
			remove(t, s, id)
		}, []string{"a", "b"}},
		{"released after the removal", func(t *testing.T, s *containers.Store, id string, l [2]commit.Layer) {
			h := hold(t, s, l[1].ID)
			remove(t, s, id)
			release(t, h)
		}, nil},
		{"only the lower layer is held", func(t *testing.T, s *containers.Store, id string, l [2]commit.Layer) {
			hold(t, s, l[0].ID)
			remove(t, s, id)
		}, []string{"a"}},
		{"two holds", func(t *testing.T, s *containers.Store, id string, l [2]commit.Layer) {
			one := hold(t, s, l[1].ID)
			remove(t, s, id)
			two := hold(t, s, l[1].ID)
			release(t, one)
			if diff := cmp.Diff([]string{"a", "b"}, present(t, s, l[:]...)); diff != "" {
				t.Errorf("with one hold (-want +got):\n%s", diff)
			}
			release(t, two)
		}, nil},
		{"another image has the lower layer", func(t *testing.T, s *containers.Store, id string, l [2]commit.Layer) {
			spec := commit.Image{Layers: l[:1], NoHistory: true}
			if _, err := commit.Record(s, spec); err != nil {
				t.Fatal(err)
			}
			h := hold(t, s, l[1].ID)
			remove(t, s, id)
			release(t, h)
		}, []string{"a"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := open(t)
			id, lower, upper := image(t, s, "localhost/x:1")
			tc.do(t, s, id, [2]commit.Layer{lower, upper})
			if diff := cmp.Diff(tc.want, present(t, s, lower, upper)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

// TestHoldOfCache: a layer that no image had when it was held belongs to the cache, and stays.
func TestHoldOfCache(t *testing.T) {
	s := open(t)
	l := layer(t, s, commit.Layer{}, "a", "rbuild-cache-x")
	release(t, hold(t, s, l.ID))
	if diff := cmp.Diff([]string{"a"}, present(t, s, l)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if _, err := s.Hold("none"); !errors.Is(err, containers.ErrNoLayer) {
		t.Errorf("hold of a layer that is not there: %v", err)
	}
}

// TestHoldOfTheDead: the next Open releases the holds of processes that have died, and no others.
func TestHoldOfTheDead(t *testing.T) {
	s := open(t)
	id, lower, upper := image(t, s, "localhost/x:1")
	dead, err := containers.Open(containers.Options{GraphRoot: s.GraphRoot(), RunRoot: s.RunRoot(), Driver: "overlay"})
	if err != nil {
		t.Fatal(err)
	}
	hold(t, dead, upper.ID)
	remove(t, s, id)
	own := hold(t, s, lower.ID)
	again(t, s)
	if n := holds(t, s); n != 2 {
		t.Errorf("%d holds of the living", n)
	}

	dead.Failed(syscall.ENOSPC) // its file stays, as after its death
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	again(t, s)
	if n := holds(t, s); n != 1 {
		t.Errorf("%d holds after one has died", n)
	}
	if diff := cmp.Diff([]string{"a"}, present(t, s, lower, upper)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	release(t, own)
	if files := present(t, s, lower, upper); files != nil {
		t.Errorf("files are left: %v", files)
	}
}

func hold(t *testing.T, s *containers.Store, id string) *containers.Hold {
	t.Helper()
	h, err := s.Hold(id)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func release(t *testing.T, h *containers.Hold) {
	t.Helper()
	if err := h.Release(); err != nil {
		t.Fatal(err)
	}
}

// TestLayersOfAnImage: an image whose layers are not those of its config is refused, by whatever
// way it is opened.
func TestLayersOfAnImage(t *testing.T) {
	s := open(t)
	id, lower, upper := image(t, s, "localhost/honest:1")
	img, err := s.Image(id)
	if err != nil {
		t.Fatal(err)
	}
	if layers, err := s.Layers(img); err != nil || len(layers) != 2 || containers.VerifyImage(s.Storage(), id) != nil {
		t.Errorf("honest image: %v, %v", layers, err)
	}

	other := layer(t, s, lower, "evil", "")
	for name, top := range map[string]string{"other layer": other.ID, "layer missing": lower.ID, "no layers": ""} {
		t.Run(name, func(t *testing.T) {
			config := []byte(`{"rootfs":{"type":"layers","diff_ids":["` + lower.DiffID + `","` + upper.DiffID + `"]},"author":"` + digest.Digest(name) + `"}`)
			manifest := []byte(`{"config":{"digest":"` + digest.FromBytes(config) + `"}}`)
			id, _, err := s.PutImage(commit.Documents{TopLayer: top, Config: config, Manifest: manifest, Names: []string{"localhost/lie:1"}})
			if err != nil {
				t.Fatal(err)
			}
			img, err := s.Image(id)
			if err != nil {
				t.Fatal(err)
			}
			_, layersErr := s.Layers(img)
			_, _, putErr := s.PutImage(commit.Documents{TopLayer: upper.ID, Config: config, Manifest: manifest})
			for what, err := range map[string]error{"Layers": layersErr, "VerifyImage": containers.VerifyImage(s.Storage(), id), "PutImage": putErr} {
				if !errors.Is(err, images.ErrOtherLayers) || !strings.Contains(err.Error(), "rbuild rmi localhost/lie:1") {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}
