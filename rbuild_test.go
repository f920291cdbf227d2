package rbuild_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"codeberg.org/rbuild/rbuild"
)

// program is the path of the copy of this test binary that the RUN steps of the tests execute.
const program = "/program"

// TestMain makes the test binary a program that embeds rbuild: it calls Main first.
func TestMain(m *testing.M) {
	if os.Args[0] == program {
		os.Exit(step(os.Args[1:]))
	}
	rbuild.Main()
	os.Exit(m.Run())
}

// step is the command of a RUN step.
func step(args []string) int {
	switch args[0] {
	case "secret":
		secret, err := os.ReadFile("/run/secrets/token")
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println("secret of", len(secret), "bytes")
	case "fail":
		return 7
	case "sleep":
		fmt.Println("sleeping")
		time.Sleep(time.Minute)
	}
	return 0
}

// newContext makes a context with a Dockerfile and this test binary.
func newContext(t *testing.T, dockerfile string) string {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "program"), text, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// newStore returns a store that the test removes. Its files belong to subordinate IDs, so a builder removes them.
func newStore(t *testing.T) rbuild.Store {
	t.Helper()
	dir := t.TempDir()
	return rbuild.Store{Root: filepath.Join(dir, "root"), RunRoot: filepath.Join(dir, "run")}
}

// skipWithoutNamespace skips a test if err says that this machine allows no user namespace.
func skipWithoutNamespace(t *testing.T, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "RUN needs a user namespace") {
		return
	}
	if os.Getenv("RBUILD_TEST_NEED_NS") != "" {
		t.Fatal(err)
	}
	t.Skip(err)
}

func TestBuild(t *testing.T) {
	const token = "correct horse"
	store := newStore(t)
	var output bytes.Buffer
	var kinds []rbuild.EventKind
	epoch := time.Unix(0, 0)
	o := rbuild.Options{
		Context: newContext(t, "FROM scratch\nARG NAME\nCOPY program /program\n"+
			"RUN --mount=type=secret,id=token [\"/program\", \"secret\"]\nLABEL name=$NAME\n"),
		Tags: []string{"embedded"}, Args: map[string]string{"NAME": "x"}, Timestamp: &epoch, Store: store,
		Secrets: map[string][]byte{"token": []byte(token)},
		Events: func(e rbuild.Event) {
			output.Write(e.Output)
			kinds = append(kinds, e.Kind)
			if strings.Contains(fmt.Sprintf("%+v", e), token) {
				t.Errorf("an event holds the secret: %s", e)
			}
		},
	}

	first, err := rbuild.Build(t.Context(), o)
	skipWithoutNamespace(t, err)
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Image.ID) != 64 || first.Image.String() != "localhost/embedded:latest" || !strings.HasPrefix(first.Image.Digest, "sha256:") {
		t.Errorf("image %+v", first.Image)
	}
	if want := "secret of 13 bytes\n"; output.String() != want {
		t.Errorf("output %q, want %q", output.String(), want)
	}
	if !slices.Contains(kinds, rbuild.StepDone) || slices.Contains(kinds, rbuild.StepCached) {
		t.Errorf("events %v", kinds)
	}

	kinds = nil
	second, err := rbuild.Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if second.Image.ID != first.Image.ID || !slices.Contains(kinds, rbuild.StepCached) {
		t.Errorf("again: %+v, events %v", second.Image, kinds)
	}
}

// TestBuildFails: a failed RUN has its exit code and its line.
func TestBuildFails(t *testing.T) {
	o := rbuild.Options{
		Context: newContext(t, "FROM scratch\nCOPY program /program\nRUN [\"/program\", \"fail\"]\n"), Store: newStore(t),
	}
	_, err := rbuild.Build(t.Context(), o)
	skipWithoutNamespace(t, err)
	failed, ok := errors.AsType[*rbuild.Error](err)
	if !ok {
		t.Fatal(err)
	}
	if failed.ExitCode != 7 || failed.FirstLine != 3 || len(failed.Lines) != 1 || !strings.Contains(failed.Text, "exit status 7") {
		t.Errorf("%+v", failed)
	}
}

// TestBuildCanceled: the end of the context ends the step that runs.
func TestBuildCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := rbuild.Options{
		Context: newContext(t, "FROM scratch\nCOPY program /program\nRUN [\"/program\", \"sleep\"]\n"), Store: newStore(t),
		Events: func(e rbuild.Event) {
			if strings.Contains(string(e.Output), "sleeping") {
				cancel()
			}
		},
	}
	began := time.Now()
	_, err := rbuild.Build(ctx, o)
	skipWithoutNamespace(t, err)
	if !errors.Is(err, context.Canceled) || time.Since(began) > 45*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}

// TestBadOptions: bad options are refused before a process is started.
func TestBadOptions(t *testing.T) {
	for want, o := range map[string]rbuild.Options{
		"standard input":           {Context: "-"},
		"platform":                 {Platform: "a/b/c/d"},
		"not a name":               {Args: map[string]string{"a=b": "c"}},
		"pull policy":              {Pull: "sometimes"},
		"a secret has an empty ID": {Secrets: map[string][]byte{"": nil}},
		`secret "s" has more than`: {Secrets: map[string][]byte{"s": make([]byte, 500<<10+1)}},
		"tag \"UPPER\": ":          {Tags: []string{"UPPER"}},
	} {
		if _, err := rbuild.Build(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
