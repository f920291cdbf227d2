package transfer

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
)

// TestTransports pushes an image to each kind of file and pulls it from there
// into another store.
func TestTransports(t *testing.T) {
	img := makeImage(t,
		layerTar(t, dirEntry("etc"), entry("etc/one", "1")),
		layerTar(t, entry("two", "2"), entry("etc/.wh.one", "")))
	for _, tc := range []struct {
		dest  string // with DIR for a directory of the test
		found string // name after pulling; "": the ID
	}{
		{"oci:DIR/layout:here.example/x:1", "here.example/x:1"},
		{"oci:DIR/layout", ""},
		{"oci-archive:DIR/a.tar:here.example/x:1", "here.example/x:1"},
		{"oci-archive:DIR/a.tar:1.0", "localhost/1.0:latest"},
		{"oci-archive:DIR/a.tar", ""},
		{"docker-archive:DIR/a.tar:here.example/x:1", "here.example/x:1"},
		{"docker-archive:DIR/a.tar", "localhost/img:latest"},
		{"dir:DIR/d", ""},
	} {
		t.Run(tc.dest, func(t *testing.T) {
			o := hermetic(t)
			first, second := newStore(t), newStore(t)
			id, found := mustPull(t, first, img.layout(t, "localhost/img:latest"), PullMissing, o)
			if diff := cmp.Diff([]string{img.id(t), "localhost/img:latest"}, []string{id, found}); diff != "" {
				t.Fatalf("pulling the layout (-want +got):\n%s", diff)
			}
			dest := strings.Replace(tc.dest, "DIR", t.TempDir(), 1)
			if _, err := Push(t.Context(), first, "img", dest, PushOptions{Options: o}); err != nil {
				t.Fatal(err)
			}
			id, found = mustPull(t, second, dest, PullMissing, o)
			want := tc.found
			if want == "" {
				want = id
			}
			if found != want {
				t.Errorf("pulled under the name %q, want %q", found, want)
			}
			got, err := library(t, second).Image(id)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(diffIDs(t, first, img.id(t)), diffIDs(t, second, got.ID)); diff != "" {
				t.Errorf("layers (-pushed +pulled):\n%s", diff)
			}
		})
	}
}

func mustPull(t *testing.T, st *containers.Store, name string, policy Policy, o Options) (id, found string) {
	t.Helper()
	id, found, err := Pull(t.Context(), st, name, policy, o)
	if err != nil {
		t.Fatalf("pulling %s: %v", name, err)
	}
	return id, found
}

// diffIDs are the digests of an image's layers, topmost first.
func diffIDs(t *testing.T, st *containers.Store, id string) []string {
	t.Helper()
	img, err := library(t, st).Image(id)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for layer := img.TopLayer; layer != ""; {
		l, err := library(t, st).Layer(layer)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, l.UncompressedDigest.String())
		layer = l.Parent
	}

	return ids
}
