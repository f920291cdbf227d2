package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/doctor"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// execute runs a command line and returns its output.
func execute(t *testing.T, args ...string) (string, error) {
	t.Helper()
	root := newRootCmd(newApp())
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	err := root.Execute()
	return out.String(), err
}

// TestEveryCommand: each command has a help with a heading for its flags, and a bad flag is refused by name.
func TestEveryCommand(t *testing.T) {
	for _, cmd := range newRootCmd(newApp()).Commands() {
		name := cmd.Name()
		out, err := execute(t, name, "--help")
		if err != nil || !strings.Contains(out, "Usage:\n  rbuild "+name) || !strings.Contains(out, "Flags of every command:") {
			t.Errorf("%s --help: %v\n%s", name, err, out)
		}
		if _, err := execute(t, name, "--no-such-flag"); err == nil || !strings.Contains(err.Error(), "--no-such-flag") {
			t.Errorf("%s --no-such-flag: %v", name, err)
		}
	}
}

// TestBadCommands: errors of a command line are found before anything is done.
func TestBadCommands(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"build a b", "accepts at most 1 arg"},
		{"build --network x", "choose host, none or private"},
		{"pull", "requires at least 1 arg"},
		{"pull --policy x a", "--policy"},
		{"push", "accepts between 1 and 2 arg"},
		{"push --compression-format lz4 a", "--compression-format"},
		{"images --sort color", "--sort"},
		{"tag a", "requires at least 2 arg"},
		{"login", "accepts 1 arg"},
		{"logout --all x", "--all takes no registry"},
		{"logout", "name a registry"},
		{"version x", "unknown command"},
		{"no-such-command", "unknown command"},
		{"--log-level loud version", "--log-level"},
		{"--cgroup-manager x version", "--cgroup-manager"},
	} {
		if _, err := execute(t, strings.Fields(tc.args)...); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.args, err, tc.want)
		}
	}
}

func TestVersion(t *testing.T) {
	out, err := execute(t, "version", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var v versionInfo
	if err := json.Unmarshal([]byte(out), &v); err != nil || v != currentVersion() {
		t.Errorf("%+v, %v", v, err)
	}

	for format, want := range map[string]string{
		"{{.Version}}": currentVersion().Version + "\n", "{{.Client.OSArch}}": currentVersion().OSArch + "\n",
	} {
		if out, err := execute(t, "version", "--format", format); err != nil || out != want {
			t.Errorf("%s: %q, %v", format, out, err)
		}
	}
	if out, err := execute(t, "version"); err != nil || !strings.HasPrefix(out, "Version: ") {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := execute(t, "--version"); err != nil || !strings.Contains(out, "image-spec") {
		t.Errorf("%q, %v", out, err)
	}
}

func TestCompletion(t *testing.T) {
	for _, alias := range []string{"build", "bud"} {
		out, err := execute(t, "__complete", alias, "--iid")
		if err != nil || !strings.Contains(out, "--iidfile\t") {
			t.Errorf("%s: %q, %v", alias, out, err)
		}
	}
}

// TestRunCommand: the exit code of unshare is that of the command.
func TestRunCommand(t *testing.T) {
	for _, tc := range []struct {
		args []string
		code int
	}{
		{[]string{"true"}, 0},
		{[]string{"sh", "-c", "exit 3"}, 3},
		{[]string{"sh", "-c", "kill -9 $$"}, exitTool},
		{[]string{"/no/such/program"}, 127},
		{[]string{"/etc/passwd"}, 126},
	} {
		err := runCommand(tc.args)
		failed, ok := errors.AsType[*exitError](err)
		if tc.code == 0 && err != nil || tc.code != 0 && (!ok || failed.code != tc.code) {
			t.Errorf("%q: %v, want exit code %d", tc.args, err, tc.code)
		}
	}
	if got := defaultShell(""); got != "/bin/sh" {
		t.Errorf("%q", got)
	}
	if got := defaultShell("/bin/zsh"); got != "/bin/zsh" {
		t.Errorf("%q", got)
	}
}

// TestPrintReport: the exit code says whether builds work here.
func TestPrintReport(t *testing.T) {
	cmd := newDoctorCmd(newApp())
	var out bytes.Buffer
	cmd.SetOut(&out)
	if err := printReport(cmd, doctor.NewReport(userns.Helper, nil), true); err != nil || !json.Valid(out.Bytes()) {
		t.Errorf("%v: %s", err, out.String())
	}

	out.Reset()
	missing := doctor.NewReport(doctor.None, []doctor.Finding{{Status: doctor.Missing}})
	err := printReport(cmd, missing, false)
	if failed, ok := errors.AsType[*exitError](err); !ok || failed.code != exitUnhealthy || out.Len() == 0 {
		t.Errorf("%v: %s", err, out.String())
	}
}

func TestLogFormatter(t *testing.T) {
	began := time.Now()
	f := &logFormatter{began: began}
	line, err := f.Format(&logrus.Entry{
		Level: logrus.WarnLevel, Time: began.Add(2 * time.Second), Message: "a\x1b[31m", Data: logrus.Fields{"b": "\n", "a": 1},
	})
	if want := "WARN[0002] a\\x1b[31m a=1 b= \n"; err != nil || cmp.Diff(want, string(line)) != "" {
		t.Errorf("%q, %v; want %q", line, err, want)
	}
}

func TestCleanPath(t *testing.T) {
	t.Setenv("PATH", "/bin:.:bin::/usr/bin")
	if err := cleanPath(); err != nil {
		t.Fatal(err)
	}
	if got := os.Getenv("PATH"); got != "/bin:/usr/bin" {
		t.Errorf("%q", got)
	}
}

// TestHost: the facts about this machine are complete.
func TestHost(t *testing.T) {
	t.Setenv("CONTAINERS_CONF", os.DevNull)
	t.Setenv("CONTAINERS_CONF_OVERRIDE", "")
	a := newApp()
	h, err := a.host()
	if err != nil {
		t.Fatal(err)
	}
	if h.Platform.OS != "linux" || h.Version == "" || len(h.Environ) == 0 {
		t.Errorf("%+v", h)
	}
	if limit, err := h.HardLimit("RLIMIT_NOFILE"); err != nil || limit == 0 {
		t.Errorf("%d, %v", limit, err)
	}
	var f cli.BuildFlags
	cmd := newBuildCmd(a)
	cmd.ResetFlags()
	f.Register(cmd.Flags())
	if _, err := f.Parse(nil, h); err != nil {
		t.Error(err)
	}
	if o, err := a.cgroups(); err != nil || o.UID != os.Getuid() {
		t.Errorf("%+v, %v", o, err)
	}
}
