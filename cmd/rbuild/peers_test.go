package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/builder"
)

// TestRefusedFlags wants every flag in the table to be refused by its name and with its reason, and none to exist.
func TestRefusedFlags(t *testing.T) {
	for command, flags := range refusedFlags {
		for flag, why := range flags {
			form := "--" + flag
			if len(flag) == 1 {
				form = "-" + flag
			}
			args := []string{form}
			if command != "" {
				args = []string{command, form}
			}
			cmd := newRootCmd(&app{})
			cmd.SetArgs(args)
			want := form + " is not supported by this version of rbuild; nothing was done: " + why
			if err := cmd.Execute(); err == nil || err.Error() != want {
				t.Errorf("%s: %v, want %s", strings.Join(args, " "), err, want)
			}
		}
	}
}

// TestGlobalFlags wants the flags that buildah's tests give with every command, before and after the command.
func TestGlobalFlags(t *testing.T) {
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.json")
	if err := os.WriteFile(policy, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := []string{
		"--registries-conf=/r", "--registries-conf-dir=" + dir, "--short-name-alias-conf=/s", "--signature-policy=" + policy,
		"--root=/a", "--runroot=/b", "--storage-driver=overlay", "--storage-opt=x=y", "--log-level=error", "--debug=false",
		"--cgroup-manager=cgroupfs", "--userns-uid-map=0:0:1000", "--userns-gid-map=0:0:1000",
	}

	commands := []string{
		budName, "pull", "push", "images", "rmi", "tag", "inspect", "history", "login", "logout", "info", "version",
		"prune", "unshare",
	}

	for _, command := range commands {
		for _, before := range []bool{true, false} {
			a := &app{}
			root := newRootCmd(a)
			args := append([]string{command}, flags...)
			if before {
				args = append(slices.Clip(flags), command)
			}
			cmd, rest, err := root.Find(args)
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.ParseFlags(rest); err != nil {
				t.Fatalf("%s: %v", command, err)
			}
			if err := a.config.check(); err != nil {
				t.Errorf("%s: %v", command, err)
			}
			o := a.sys()
			got := []string{cmd.Name(), o.RegistriesConf, o.RegistriesConfDir, o.ShortNameAliases, o.SignaturePolicy}
			if diff := cmp.Diff([]string{command, "/r", dir, "/s", policy}, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", command, diff)
			}
		}
	}

	for _, bad := range []string{
		"--registries-conf-dir=/no/such", "--signature-policy=/etc/passwd", "--signature-policy=/no/such",
		"--cgroup-manager=x", "--userns-uid-map=0:1:2",
	} {
		a := &app{}
		cmd := newRootCmd(a)
		name, _, _ := strings.Cut(bad, "=")
		if err := cmd.ParseFlags([]string{bad}); err != nil {
			t.Fatal(err)
		}
		if err := a.config.check(); err == nil || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%s: %v", bad, err)
		}
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
		f := parse(t, strings.Fields(tc.args)...)
		_, err := f.options(environment("BUILDKIT_PROGRESS=" + tc.env))
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%+v: %v", tc, err)
			}
			continue
		}
		if err != nil || f.output.progress != tc.want {
			t.Errorf("%+v: %q, %v", tc, f.output.progress, err)
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
		f := parse(t, strings.Fields(args)...)
		if _, err := f.options(environment()); err != nil || f.output.log() != want {
			t.Errorf("%s: %q, %v; want %q", args, f.output.log(), err, want)
		}
	}
}

func TestIdentityFlags(t *testing.T) {
	args := "--identity-label --label a=b --inherit-annotations=false --os-version 10.0 --os-feature x --os-feature y- " +
		"--save-stages --stage-labels --layer-label l --unsetannotation k"
	o, err := parse(t, strings.Fields(args)...).options(environment())
	if err != nil {
		t.Fatal(err)
	}
	got, want := o.Image, builder.ImageOptions{
		AnyFormat:   true,
		System:      builder.SystemOptions{Version: "10.0", Features: []string{"x", "y-"}},
		Stages:      builder.StageImages{Save: true, Describe: true, Labels: []builder.Label{{Key: "l"}}},
		Annotations: builder.AnnotationOptions{NoBase: true, Unset: []string{"k"}},
		Labels: builder.LabelOptions{
			Set: []builder.Label{{Key: "io.rbuild.version", Value: currentVersion().Version}, {Key: "a", Value: "b"}},
		},
	}

	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	o, err = parse(t).options(environment())
	if err != nil || o.Image.Annotations.NoBase || len(o.Image.Labels.Set) > 0 || o.Image.Stages.Save {
		t.Errorf("by default: %+v, %v", o.Image, err)
	}
}
