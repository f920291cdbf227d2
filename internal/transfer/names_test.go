package transfer

import (
	"errors"
	"strings"
	"testing"

	"codeberg.org/rbuild/rbuild/internal/images"
)

func TestResolve(t *testing.T) {
	st, o := newStore(t), hermetic(t)
	img := makeImage(t, layerTar(t, entry("a", "1")))
	id, _ := mustPull(t, st, img.layout(t, "localhost/local:latest"), PullAlways, o)
	names := []string{
		"localhost/local:latest", "docker.io/library/hub:1", "registry.example/some/aliased:2",
		"registry.example:5000/deep/er:3", "localhost/tagged:v1", "localhost/oci:v1", "docker.io/library/docker:cli",
	}

	if err := library(t, st).AddNames(id, names); err != nil {
		t.Fatal(err)
	}
	stored, err := library(t, st).Image(id)
	if err != nil {
		t.Fatal(err)
	}
	pinned := "registry.example:5000/deep/er@" + stored.Digest.String()
	wrong := "registry.example:5000/deep/er@sha256:" + strings.Repeat("0", 64)
	for _, tc := range []struct {
		name   string
		byName string // found by Resolve as; "": not found
		byID   string // found by Lookup, if other
	}{
		{name: "local", byName: "localhost/local:latest"},
		{name: "local:latest", byName: "localhost/local:latest"},
		{name: "localhost/local", byName: "localhost/local:latest"},
		{name: "tagged:v1", byName: "localhost/tagged:v1"},
		{name: "containers-storage:tagged:v1", byName: "localhost/tagged:v1"},
		{name: "containers-storage:[overlay@/x+/y]localhost/tagged:v1", byName: "localhost/tagged:v1"},
		{name: "tagged"},
		{name: "hub:1", byName: "docker.io/library/hub:1"},
		{name: "docker.io/hub:1", byName: "docker.io/library/hub:1"},
		{name: "aliased:2", byName: "registry.example/some/aliased:2"},
		{name: "er:3"},
		{name: "registry.example:5000/deep/er:3", byName: "registry.example:5000/deep/er:3"},
		{name: pinned, byName: pinned},
		{name: strings.Replace(pinned, "@", ":other@", 1), byName: pinned},
		{name: wrong},
		{name: id, byName: id},
		{name: "sha256:" + id, byName: id},
		{name: id[:63], byID: id},
		{name: id[:12], byID: id},
		{name: id[:3], byID: id},
		{name: id[:2]},
		{name: id[:1]},
		{name: "oci:/somewhere"},
		{name: "oci:v1", byName: "localhost/oci:v1"},
		{name: "docker:cli", byName: "docker.io/library/docker:cli"},
		{name: "docker:29-cli"},
		{name: "containers-storage:oci:v1", byName: "localhost/oci:v1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, found, err := images.Resolve(st, tc.name, o.Names)
			checkFound(t, "Resolve", tc.byName, found, err)
			if tc.byName != "" && got.ID != id {
				t.Errorf("Resolve found the image %s", got.ID)
			}
			want := tc.byName
			if tc.byID != "" {
				want = tc.byID
			}
			_, found, err = images.Lookup(st, tc.name, o.Names)
			checkFound(t, "Lookup", want, found, err)
		})
	}

	for _, bad := range []string{"", "UPPER", "a b", "x:y:z@", "docker-daemon:x:1"} {
		if _, _, err := images.Resolve(st, bad, o.Names); err == nil {
			t.Errorf("Resolve accepts %q", bad)
		}
	}
}

func checkFound(t *testing.T, what, want, got string, err error) {
	t.Helper()
	if want == "" {
		if !errors.Is(err, images.ErrNotFound) {
			t.Errorf("%s found %q (%v), want none", what, got, err)
		}
		return
	}
	if got != want || err != nil {
		t.Errorf("%s found %q (%v), want %q", what, got, err, want)
	}
}

func TestParsePolicy(t *testing.T) {
	for text, want := range map[string]Policy{
		"": PullMissing, "always": PullAlways, "Missing": PullMissing, "ifnotpresent": PullMissing, "never": PullNever, "newer": PullNewer, "sometimes": "",
	} {
		got, err := ParsePolicy(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}
