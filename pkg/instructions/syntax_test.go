package instructions

import (
	"strings"
	"testing"
)

func TestCheckSyntax(t *testing.T) {
	const digest = "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for _, tc := range []struct{ directive, override, warning, err string }{
		{"", "", "", ""},
		{"docker/dockerfile", "", "", ""},
		{"docker/dockerfile:1", "", "", ""},
		{"docker/dockerfile:1.26", "", "", ""},
		{"docker/dockerfile:1.26.9-labs", "", "", ""},
		{"docker/dockerfile:1-labs", "", "", ""},
		{"docker/dockerfile:1.0-experimental", "", "", ""},
		{"docker/dockerfile:latest", "", "", ""},
		{"docker/dockerfile-upstream:master-labs", "", "", ""},
		{"docker/dockerfile" + digest, "", "", ""},
		{"docker/dockerfile:1.4" + digest, "", "", ""},
		{"docker.io/docker/dockerfile:1.4 with words", "", "", ""},
		{"mirror.example:5000/proxy/docker/dockerfile:1", "", "", ""},
		{"docker/dockerfile:1.27", "", "# syntax=docker/dockerfile:1.27 is newer than what is known here, version 1.26", ""},
		{"docker/dockerfile:1.100.3-labs", "", "newer", ""},
		{"docker/dockerfile:2", "", "newer", ""},
		{"docker/dockerfile:2.0" + digest, "", "newer", ""},
		{"mirror.example/dockerfile:1.27", "", "newer", ""},
		{"example/other:1", "", "", "Dockerfile:1: # syntax=example/other:1 is refused: no frontend is run"},
		{"Nonsense", "", "", "Dockerfile:1: # syntax=Nonsense: not the name of an image"},
		{"example/other:1", "docker/dockerfile:1", "", ""},
		{"", "docker/dockerfile:1.30", "BUILDKIT_SYNTAX=docker/dockerfile:1.30 is newer", ""},
		{"docker/dockerfile:1.30", "docker/dockerfile:1", "", ""},
		{"docker/dockerfile:1", "example/other", "", "Dockerfile: BUILDKIT_SYNTAX=example/other is refused"},
	} {
		t.Run(tc.directive+" "+tc.override, func(t *testing.T) {
			text := "FROM scratch\n"
			if tc.directive != "" {
				text = "# syntax=" + tc.directive + "\n" + text
			}
			f, err := Parse("Dockerfile", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			w, err := f.CheckSyntax(tc.override)
			switch {
			case err != nil:
				if tc.err == "" || !strings.HasPrefix(err.Error(), tc.err) {
					t.Errorf("got error %v, want %q", err, tc.err)
				}
			case tc.err != "":
				t.Errorf("no error, want %q", tc.err)
			case w == nil:
				if tc.warning != "" {
					t.Errorf("no warning, want %q", tc.warning)
				}
			case tc.warning == "" || !strings.Contains(w.Msg, tc.warning):
				t.Errorf("got warning %q, want %q", w.Msg, tc.warning)
			}
		})
	}
}
