package images

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNormalizeTag(t *testing.T) {
	for name, want := range map[string]string{
		"x":                                     "localhost/x:latest",
		"x:1":                                   "localhost/x:1",
		"team/x":                                "localhost/team/x:latest",
		"docker.io/x":                           "docker.io/library/x:latest",
		"registry.example/x":                    "registry.example/x:latest",
		"localhost:5000/x":                      "localhost:5000/x:latest",
		"localhost/x:1":                         "localhost/x:1",
		"":                                      "",
		"X":                                     "",
		"x@sha256:" + strings.Repeat("a", 64):   "",
		"x:1@sha256:" + strings.Repeat("a", 64): "",
		"-x":                                    "",
		"docker:foo":                            "localhost/docker:foo",
		"oci:v1":                                "localhost/oci:v1",
		"containers-storage:x":                  "localhost/x:latest",
		"docker://x":                            "",
		"oci:./x":                               "",
		"sif:/x":                                "",
	} {
		got := ""
		if named, err := NormalizeTag(name); err == nil {
			got = named.String()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", name, diff)
		}
	}
}
