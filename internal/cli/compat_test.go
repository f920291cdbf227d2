package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/spec"
)

// TestCompatFlags: flags that change nothing are accepted in the forms in which scripts have them.
func TestCompatFlags(t *testing.T) {
	args := "--rm --rm=false --force-rm --compress -D --disable-compression --disable-content-trust --disable-content-trust=false " +
		"--builder default --provenance=false --sbom=false --identity-label=false --inherit-annotations=false --loglevel 3 " +
		"--cni-config-dir /x --cni-plugin-path /y --runtime crun --runtime /usr/bin/runc"
	if _, err := parse(t, strings.Fields(args)); err != nil {
		t.Error(err)
	}
}

// TestBuildkitProgress: the flag wins over the environment.
func TestBuildkitProgress(t *testing.T) {
	for _, tc := range []struct{ env, args, want, err string }{
		{"plain", "", "plain", ""},
		{"rawjson", "--progress tty", "tty", ""},
		{"", "", "auto", ""},
		{"none", "", "none", ""},
		{"fancy", "", "", "BUILDKIT_PROGRESS in the environment"},
		{"fancy", "--progress plain", "plain", ""},
	} {
		b, err := parse(t, strings.Fields(tc.args), "BUILDKIT_PROGRESS="+tc.env)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%+v: %v", tc, err)
			}
			continue
		}
		if err != nil || b.Output.Progress != tc.want {
			t.Errorf("%+v: %+v, %v", tc, b, err)
		}
	}
}

func TestLogSplit(t *testing.T) {
	for args, want := range map[string]string{
		"--logfile a": "a",
		"--logfile a --logsplit --platform linux/arm64":       "a_linux_arm64",
		"--logfile a --logsplit --os linux --arch s390x":      "a_linux_s390x",
		"--logfile a --logsplit=false --platform linux/arm64": "a",
		"--logfile a --logsplit --platform linux/arm/v7":      "a_linux_arm",
	} {
		if got := mustParse(t, strings.Fields(args)).Output.LogFile.Path; got != want {
			t.Errorf("%s: %q, want %q", args, got, want)
		}
	}
}

func TestIdentityFlags(t *testing.T) {
	args := "--identity-label --label a=b --inherit-annotations=false --os-version 10.0 --os-feature x --os-feature y- " +
		"--save-stages --stage-labels --layer-label l --unsetannotation k"
	got := mustParse(t, strings.Fields(args)).Image
	want := spec.Image{
		NoAnnotations: true, OSVersion: "10.0", OSFeatures: []string{"x", "y-"},
		Stages: spec.Stages{Save: true, Label: true, Labels: []spec.Label{{Key: "l"}}},
		Unset:  spec.Unset{Annotations: []string{"k"}},
		Labels: []spec.Label{{Key: "io.rbuild.version", Value: "1.2"}, {Key: "a", Value: "b"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	usual := mustParse(t, nil).Image
	if usual.NoAnnotations || len(usual.Labels) > 0 || usual.Stages.Save {
		t.Errorf("by default: %+v", usual)
	}
}
