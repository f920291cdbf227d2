package imagename

import (
	"strings"
	"testing"

	"go.podman.io/image/v5/docker/reference"
)

const sum = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestParse(t *testing.T) {
	for text, want := range map[string]Name{
		// Images.
		"":                                {},
		"alpine":                          {Rest: "alpine"},
		"alpine:3":                        {Rest: "alpine:3"},
		"localhost:5000/x":                {Rest: "localhost:5000/x"},
		"docker":                          {Rest: "docker"},
		"docker:cli":                      {Rest: "docker:cli"},
		"docker:29-cli":                   {Rest: "docker:29-cli"},
		"docker:cli@" + sum:               {Rest: "docker:cli@" + sum},
		"docker@" + sum:                   {Rest: "docker@" + sum},
		"docker:5000/x":                   {Rest: "docker:5000/x"}, // a registry
		"docker:/x":                       {Rest: "docker:/x"},     // no image either, and not a transport
		"docker.io/docker:cli":            {Rest: "docker.io/docker:cli"},
		"docker.io/library/oci:v1":        {Rest: "docker.io/library/oci:v1"},
		"library/docker:cli":              {Rest: "library/docker:cli"},
		"oci:v1":                          {Rest: "oci:v1"},
		"oci:v1@" + sum:                   {Rest: "oci:v1@" + sum},
		"oci@" + sum:                      {Rest: "oci@" + sum},
		"oci:layout":                      {Rest: "oci:layout"},
		"oci:" + strings.Repeat("t", 128): {Rest: "oci:" + strings.Repeat("t", 128)},
		"dir:latest":                      {Rest: "dir:latest"},
		"dir:_x":                          {Rest: "dir:_x"},
		"oci-archive:v1":                  {Rest: "oci-archive:v1"},
		"docker-archive:1.0.tarball":      {Rest: "docker-archive:1.0.tarball"},
		"docker-daemon:latest":            {Rest: "docker-daemon:latest"},
		"sif:3":                           {Rest: "sif:3"},
		"tarball:v2":                      {Rest: "tarball:v2"},
		"atomic:v2":                       {Rest: "atomic:v2"},
		"ostree:2024.1":                   {Rest: "ostree:2024.1"},
		"OCI:/x":                          {Rest: "OCI:/x"},
		"ocidir:/x":                       {Rest: "ocidir:/x"},

		// Places.
		"docker://alpine":                 {Registry, "alpine"},
		"docker://oci:v1":                 {Registry, "oci:v1"},
		"docker://docker:cli":             {Registry, "docker:cli"},
		"docker://":                       {Registry, ""},
		"oci:/abs":                        {Layout, "/abs"},
		"oci:./layout":                    {Layout, "./layout"},
		"oci:dir/sub":                     {Layout, "dir/sub"},
		"oci:a:b":                         {Layout, "a:b"},
		"oci:a:":                          {Layout, "a:"},
		"oci:":                            {Layout, ""},
		"oci:.":                           {Layout, "."},
		"oci:.hidden":                     {Layout, ".hidden"},
		"oci:a b":                         {Layout, "a b"},
		"oci:lay@0":                       {Layout, "lay@0"},
		"oci:" + strings.Repeat("t", 129): {Layout, strings.Repeat("t", 129)},
		"oci:5000/x":                      {Layout, "5000/x"},
		"oci-archive:image.tar":           {LayoutArchive, "image.tar"},
		"oci-archive:image.tar:v1":        {LayoutArchive, "image.tar:v1"},
		"docker-archive:image.tar.gz":     {DockerArchive, "image.tar.gz"},
		"docker-archive:image.tgz":        {DockerArchive, "image.tgz"},
		"docker-archive:x:alpine:3":       {DockerArchive, "x:alpine:3"},
		"dir:/x":                          {Directory, "/x"},
		"dir:./x:y":                       {Directory, "./x:y"},
		"dir:..":                          {Directory, ".."},
		"containers-storage:alpine":       {Store, "alpine"},
		"containers-storage:alpine:3":     {Store, "alpine:3"},
		"containers-storage:oci:v1":       {Store, "oci:v1"},
		"containers-storage:[overlay@/a+/b:x=y]alpine:3": {Store, "alpine:3"},
		"containers-storage:@0123":                       {Store, "@0123"},
	} {
		got, err := Parse(text)
		if err != nil || got != want {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", text, got, err, want)
		}
	}
}

func TestParseUnsupported(t *testing.T) {
	for _, text := range []string{"docker-daemon:x:latest", "docker-daemon:a/b", "sif:./x.sif", "tarball:/x.tar", "atomic:h/n/i:t", "ostree:", "ostree:i@/repo"} {
		got, err := Parse(text)
		if err == nil || !strings.Contains(err.Error(), "is not supported") || got != (Name{}) {
			t.Errorf("Parse(%q) = %+v, %v", text, got, err)
		}
	}
}

func TestPath(t *testing.T) {
	for text, want := range map[string][2]string{
		"oci:/a":              {"/a", ""},
		"oci:/a:v1":           {"/a", ":v1"},
		"oci-archive:/a:b:c":  {"/a", ":b:c"},
		"docker-archive:./a:": {"./a", ":"},
		"dir:/a:b":            {"/a:b", ""},
	} {
		n, err := Parse(text)
		path, which := n.Path()
		if err != nil || !n.InFiles() || path != want[0] || which != want[1] {
			t.Errorf("%s: %q, %q, %v", text, path, which, err)
		}
	}

	for _, text := range []string{"alpine", "oci:v1", "docker://x", "containers-storage:x"} {
		if n, err := Parse(text); err != nil || n.InFiles() {
			t.Errorf("%s: in files, %v", text, err)
		}
	}
}

func TestHint(t *testing.T) {
	for text, want := range map[string]string{
		"dir:out":        "dir:out is the name of an image; a path is written dir:./out",
		"oci-archive:v1": "oci-archive:v1 is the name of an image; a path is written oci-archive:./v1",
		"docker:cli":     "", "alpine:3": "", "oci": "", "oci:/x": "", "sif:3": "", "docker-daemon:a:b": "",
	} {
		if got := Hint(text); got != want {
			t.Errorf("Hint(%q) = %q, want %q", text, got, want)
		}
	}
}

// FuzzParse: a text is a transport only if it cannot be a familiar name with a tag, and no part of
// it is lost.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"docker:cli", "oci:v1", "oci:/x:y", "docker://oci:v1", "containers-storage:[a@b]c", "sif:x:y", "dir:5000/a"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := Parse(text)
		if err != nil {
			return
		}
		if n.Transport == "" {
			if n.Rest != text {
				t.Errorf("%q: the name is %q", text, n.Rest)
			}
			return
		}

		if !strings.HasPrefix(text, n.Transport+":") || !strings.HasSuffix(text, n.Rest) {
			t.Errorf("%q: %+v", text, n)
		}
		ref, err := reference.Parse(text)
		if _, tagged := ref.(reference.Tagged); err == nil && tagged && !strings.Contains(text, "/") && n.Transport != Store && !strings.Contains(text, ".t") {
			t.Errorf("%q is an image, and %+v", text, n)
		}
		again, err := Parse(text)
		if err != nil || again != n {
			t.Errorf("%q: %+v, then %+v, %v", text, n, again, err)
		}
	})
}
