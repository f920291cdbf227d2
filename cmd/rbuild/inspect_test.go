package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/images"
)

// keys returns the keys of the outermost JSON object, in their order.
func keys(t *testing.T, text []byte) (out []string) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(text))
	if _, err := dec.Token(); err != nil { // the brace
		t.Fatal(err)
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, key.(string)) //nolint:forcetypeassert // a key is a string
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestInspectKeys: the order of the keys is a part of the output, which scripts compare.
func TestInspectKeys(t *testing.T) {
	const always = `Type Id Digest RepoTags RepoDigests Names Created Author Architecture Os Comment User Size VirtualSize
		Config Labels Annotations RootFS History NamesHistory TopLayer ManifestType GraphDriver
		FromImage FromImageID FromImageDigest ImageAnnotations OCIv1 Docker Manifest ConfigText`
	var info imageInfo
	for _, tc := range []struct {
		name string
		want string
		set  func()
	}{
		{"empty", always, func() {}},
		{"a variant", strings.Replace(always, " Os ", " Variant Os ", 1), func() { info.Variant = "v8" }},
		{
			"a health check", strings.NewReplacer(" Os ", " Variant Os ", " GraphDriver", " GraphDriver Healthcheck").Replace(always),
			func() { info.Healthcheck = &dockerspec.HealthcheckConfig{} },
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.set()
			text, err := json.Marshal(info)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Fields(tc.want), keys(t, text)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestInspectTemplate: a template names each field without the group that holds the field, and Id as podman does.
func TestInspectTemplate(t *testing.T) {
	var info imageInfo
	info.ID = "5d0da3dc9764"
	info.Os = "linux"
	info.RootFS.Type = "layers"
	info.FromImage = "localhost/app:latest"

	var out bytes.Buffer
	format := idField().ReplaceAllString("{{.Id}} {{.ID}} {{.Os}} {{.RootFS.Type}} {{.FromImage}} {{.FromImageID}}|", ".ID")
	if err := cli.WriteOne(&out, format, &info); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "5d0da3dc9764 5d0da3dc9764 linux layers localhost/app:latest |\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLayerPaths(t *testing.T) {
	for _, tc := range []struct {
		name string
		dirs []string
		want map[string]string
	}{
		{name: "no layer"},
		{"one layer", []string{"/a"}, map[string]string{"UpperDir": "/a"}},
		{"topmost first", []string{"/c", "/b", "/a"}, map[string]string{"UpperDir": "/c", "LowerDir": "/b:/a"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, layerPaths(tc.dirs)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestImageInfo: FromImage is the name by which the image was found, and the comment is that of the last step.
func TestImageInfo(t *testing.T) {
	img := images.Image{ID: "5d0da3dc9764", Digest: "sha256:1111", Names: []string{"localhost/app:1"}}
	config := dockerspec.DockerOCIImage{Image: ocispec.Image{History: []ocispec.History{{Comment: "first"}, {Comment: "last"}}}}
	content := images.Content{Layers: []images.Layer{{Size: 3}, {Size: 4}}, Directories: []string{"/top", "/base"}}
	for _, tc := range []struct{ name, found, from string }{
		{"by name", "localhost/app:1", "localhost/app:1"},
		{"by ID", img.ID, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := newImageInfo(img, tc.found, content, config)
			if got.FromImage != tc.from || got.FromImageID != img.ID || got.Comment != "last" {
				t.Errorf("from %q %q, comment %q", got.FromImage, got.FromImageID, got.Comment)
			}
			if got.Size != 7 || got.VirtualSize != 7 || got.GraphDriver.Data["UpperDir"] != "/top" {
				t.Errorf("%d bytes, %d, %v", got.Size, got.VirtualSize, got.GraphDriver)
			}
		})
	}
}
