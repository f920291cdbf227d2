package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/engine"
)

// TestRefusedFlags wants every flag in the table to be refused by its name and with its reason, and none to exist.
func TestRefusedFlags(t *testing.T) {
	for command, flags := range cli.RefusedFlags() {
		for flag, why := range flags {
			form := "--" + flag
			if len(flag) == 1 {
				form = "-" + flag
			}
			args := []string{form}
			if command != "" {
				args = []string{command, form}
			}
			cmd := newRootCmd(newApp())
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
		cli.BuildCommand, "pull", "push", "images", "rmi", "tag", "inspect", "history", "login", "logout", "info", "version",
		"prune", "unshare",
	}

	for _, command := range commands {
		for _, before := range []bool{true, false} {
			a := newApp()
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
			if err := a.configure(); err != nil {
				t.Errorf("%s: %v", command, err)
			}
			o := a.RegistryOptions()
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
		a := newApp()
		cmd := newRootCmd(a)
		name, _, _ := strings.Cut(bad, "=")
		if err := cmd.ParseFlags([]string{bad}); err != nil {
			t.Fatal(err)
		}
		if err := a.configure(); err == nil || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestAliases: build and its aliases are one command, and print the same help.
func TestAliases(t *testing.T) {
	help := func(name string) string {
		t.Helper()
		a := newApp()
		root := newRootCmd(a)
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetErr(&out)
		root.SetArgs([]string{name, "--help"})
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}

	want := help("build")
	for _, alias := range []string{"bud", "build-using-dockerfile"} {
		if diff := cmp.Diff(want, help(alias)); diff != "" {
			t.Errorf("%s (-build +%s):\n%s", alias, alias, diff)
		}
	}
	for _, subject := range cli.Subjects() {
		if !strings.Contains(want, "\n"+subject+":\n") {
			t.Errorf("the help of build has no heading %s", subject)
		}
	}
}

// TestHelpTexts: the text of each flag begins with a capital letter, and each command has a description.
func TestHelpTexts(t *testing.T) {
	for _, cmd := range newRootCmd(newApp()).Commands() {
		if cmd.Short == "" {
			t.Errorf("%s has no description", cmd.Name())
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" || strings.ToUpper(f.Usage[:1]) != f.Usage[:1] {
				t.Errorf("%s --%s: %q", cmd.Name(), f.Name, f.Usage)
			}
		})
	}
}

func TestRefuseFlag(t *testing.T) {
	for flag, want := range map[string]string{"--cache-from": "not supported", "--no-such": "unknown flag"} {
		cmd := newRootCmd(newApp())
		cmd.SetArgs([]string{"bud", flag, "1"})
		cmd.SetErr(&bytes.Buffer{})
		if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), flag) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

func TestReport(t *testing.T) {
	a := newApp()
	for _, tc := range []struct {
		err  error
		want int
	}{
		{errors.New("other"), exitTool},
		{engine.ErrFindings, exitFindings},
		{errors.Join(engine.ErrInterrupted, errors.New("other")), exitInterrupted},
		{&exitError{code: 7}, 7},
		{&exitError{code: 127, err: errors.New("no such program")}, 127},
	} {
		if got := a.report(tc.err); got != tc.want {
			t.Errorf("%v: exit code %d, want %d", tc.err, got, tc.want)
		}
	}
}
