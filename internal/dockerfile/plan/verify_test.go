package plan_test

import (
	"strings"
	"testing"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
)

// TestVerify: an error that no base image can fix is reported without the base image; an error that
// a base image may fix is left to the build.
func TestVerify(t *testing.T) {
	for _, tc := range []struct{ name, text, err string }{
		{"good", "FROM a\nARG A\nENV B=$A\nCOPY $B x\nFROM scratch\nCOPY --from=0 x /", ""},
		{"variable of the base", "FROM a\nCOPY --chmod=$MODE x /", ""},
		{"required variable of the base", "FROM a\nRUN x\nLABEL a=${A:?gone}", ""},
		{"required variable of scratch", "FROM scratch\nLABEL a=${A:?gone}", "Dockerfile:2: "},
		{"wrong for every base", "FROM a\nCOPY --chmod=9 x /", "Dockerfile:2: --chmod=9"},
		{"several sources", "FROM a\nCOPY x y /z", "Dockerfile:2: the destination /z"},
		{"wrong by an argument", "FROM a\nARG M=9\nCOPY --chmod=$M x /", "Dockerfile:3: --chmod=9"},
		{"wrong by a variable", "FROM a\nENV M=9\nCOPY --chmod=$M x /", "Dockerfile:3: --chmod=9"},
		{"by a variable that depends on the base", "FROM a\nENV M=$X\nENV N=${M:-9}\nCOPY --chmod=$N x /", ""},
		{"set anew", "FROM a\nENV M=$X\nENV M=9\nCOPY --chmod=$M x /", "Dockerfile:4: --chmod=9"},
		{"path of the base", "FROM a\nCOPY --chmod=$PATH x /", ""},
		{"path of scratch", "FROM scratch\nCOPY --chmod=$PATH x /", "Dockerfile:2: --chmod="},
		{"stage on a stage", "FROM a AS s\nENV M=9 N=$X\nFROM s\nCOPY --chmod=${N:-8} x /\nCOPY --chmod=$M x /", "Dockerfile:5: --chmod=9"},
		{"mount", "FROM a\nRUN --mount=target=/ x", "Dockerfile:2: --mount: the target is the root directory"},
		{"mount of a variable", "FROM a\nRUN --mount=target=/$X x", ""},
		{"mount by an argument", "FROM a\nARG T=tmpfs,target=/\nENV X=/\nRUN --mount=type=tmpfs,target=$X x", "Dockerfile:4: --mount: the target"},
		{"trigger", "FROM a AS s\nONBUILD COPY --chmod=9 x /\nFROM s", "--chmod=9"},
		{"empty path", "FROM a\nCOPY --parents \"\" /x", "Dockerfile:2: a source is empty"},
		{"metadata", "FROM a\nEXPOSE x", "Dockerfile:2: "},
		{"last instruction of a base of others", "FROM a AS s\nCOPY --chmod=$X x /\nFROM s\nCOPY --chmod=9 x /", "Dockerfile:4: --chmod=9"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := planned(t, tc.text, plan.Options{AllStages: true})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				err = p.Verify()
				if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
					t.Errorf("error %v, want %q", err, tc.err)
				}
			}
		})
	}
}

// TestImageNames: text that cannot be the name of an image is an error of the plan, if the stage is
// needed.
func TestImageNames(t *testing.T) {
	for _, tc := range []struct{ text, err string }{
		{"FROM REPLACE-ME", `Dockerfile:1: FROM: "REPLACE-ME" is neither a stage above nor a name that an image can have: `},
		{"FROM https://example.com/a", `Dockerfile:1: FROM: "https://example.com/a" is neither`},
		{"FROM a:", "Dockerfile:1: "},
		{"FROM a@sha256:1", "Dockerfile:1: FROM: "},
		{"ARG A=B\nFROM a:$A/$A", "Dockerfile:2: FROM: "},
		{"FROM a\nCOPY --from=Bad_Name! x /", `Dockerfile:2: --from: "Bad_Name!" is neither`},
		{"FROM a\nRUN --mount=from=Bad!,target=/m x", `Dockerfile:2: --mount: from: "Bad!" is neither`},
		{"FROM a AS builder\nFROM b\nCOPY --from=Bulder x /", "did you mean the stage builder?"},
		{"FROM Bad! AS unneeded\nFROM a", ""},
		{"FROM docker.io/library/a:1@sha256:" + strings.Repeat("0", 64), ""},
		{"FROM " + strings.Repeat("0", 64), ""},
		{"FROM localhost:5000/A", "Dockerfile:1: FROM: "},
		{"FROM localhost:5000/a", ""},
		{"FROM oci:DIR:TAG", ""},
		{"FROM docker://a", ""},
		{"FROM docker://A", `Dockerfile:1: FROM: "docker://A" is neither`},
		{"FROM docker:29-cli", ""},
		{"FROM containers-storage:a", "Dockerfile:1: FROM: containers-storage:a: an image in a Dockerfile is a name; pull it first"},
		{"FROM docker:/a", `Dockerfile:1: FROM: "docker:/a" is neither`},
		{"FROM oci:v1", ""},
		{"FROM docker-daemon:latest", ""},
		{"FROM docker-daemon:x:y", "Dockerfile:1: FROM: docker-daemon:x:y: transport docker-daemon: is not supported ("},
		{"FROM a\nCOPY --from=docker:cli x /", ""},
		{"FROM a\nCOPY --from=sif:./x.sif x /", "Dockerfile:2: --from: sif:./x.sif: transport sif: is not supported ("},
		{"FROM @sha256:" + strings.Repeat("0", 64), ""},
		{"FROM docker://" + strings.Repeat("0", 64), `Dockerfile:1: FROM: "docker://0000`},
	} {
		t.Run(tc.text, func(t *testing.T) {
			_, err := planned(t, tc.text, plan.Options{})
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
		})
	}
}
