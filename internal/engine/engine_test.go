package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/runner"
	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

func environment(pairs ...string) spec.Lookup {
	return func(name string) (string, bool) {
		for _, p := range pairs {
			if key, value, _ := strings.Cut(p, "="); key == name {
				return value, true
			}
		}
		return "", false
	}
}

// write makes a file in a new directory and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLocate: an error of a step shows the lines of the step.
func TestLocate(t *testing.T) {
	in := &input{texts: []instructions.Text{
		{Name: "Other", Data: []byte("FROM x\nRUN y\n")}, {Name: "Dockerfile", Data: []byte("FROM a\r\nRUN b \\\n  c\nCMD d\n")},
	}}
	err := in.locate(&builder.StepError{File: "Dockerfile", Line: 2, EndLine: 3, Step: "RUN b c", Err: errors.New("no")})
	source, ok := errors.AsType[*SourceError](err)
	if !ok {
		t.Fatal(err)
	}

	var out bytes.Buffer
	source.Print(&out)
	if diff := cmp.Diff("     2 | RUN b \\\n     3 |   c\n", out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := err.Error(); got != "Dockerfile:2: RUN b c: no" {
		t.Errorf("%q", got)
	}
}

func TestExitCode(t *testing.T) {
	for _, tc := range []struct {
		err  error
		code int
		ok   bool
	}{
		{&builder.StepError{Err: &runner.ExitError{Code: 7}}, 7, true},
		{&builder.StepError{Err: &runner.ExitError{}}, 0, false},
		{fmt.Errorf("pulling: %w", &builder.TimeoutError{}), 124, true},
		{errors.New("other"), 0, false},
	} {
		if code, ok := ExitCode(tc.err); code != tc.code || ok != tc.ok {
			t.Errorf("%v: %d, %t", tc.err, code, ok)
		}
	}
}

// TestWithin: the error of a build that takes too long names the limit.
func TestWithin(t *testing.T) {
	limit := spec.Time{Build: time.Millisecond, BuildFrom: "--timeout"}
	err := within(t.Context(), limit, func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	if code, _ := ExitCode(err); code != 124 || !strings.Contains(err.Error(), "(--timeout)") {
		t.Errorf("%v, exit code %d", err, code)
	}

	if err := within(t.Context(), spec.Time{}, func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
}

// TestCheckIDs: a map with IDs that the builder does not have is refused.
func TestCheckIDs(t *testing.T) {
	have := []userns.IDMap{{Inside: 0, Outside: 1000, Size: 1}, {Inside: 1, Outside: 100000, Size: 999}, {Inside: 2000, Outside: 200000, Size: 1}}
	state := &userns.State{Mode: userns.Helper, UIDMap: have, GIDMap: have}
	for _, tc := range []struct {
		ids []sandbox.IDRange
		ok  bool
	}{
		{[]sandbox.IDRange{{First: 0, Count: 1}}, true},
		{[]sandbox.IDRange{{First: 0, Count: 1000}}, true},
		{[]sandbox.IDRange{{First: 0, Count: 1001}}, false},
		{[]sandbox.IDRange{{First: 0, Count: 1}, {First: 2000, Count: 1}}, true},
		{[]sandbox.IDRange{{First: 0, Count: 1}, {First: 1999, Count: 2}}, false},
		{[]sandbox.IDRange{{First: 0, Count: 4294967295}}, false},
	} {
		if err := checkIDs(spec.Security{Security: runner.Security{UIDs: tc.ids}, From: spec.SecurityFrom{UIDs: "--x"}}, state); (err == nil) != tc.ok {
			t.Errorf("%v: %v", tc.ids, err)
		}
	}

	root := &userns.State{Mode: userns.Root}
	if err := checkIDs(spec.Security{HostIDs: true, From: spec.SecurityFrom{HostIDs: "--x"}}, root); err == nil {
		t.Error("real root gives RUN the IDs of the host")
	}
}

func TestOpenVolume(t *testing.T) {
	file := write(t, "f", "text")
	for _, tc := range []struct {
		volume spec.Volume
		want   string // a part of the error
	}{
		{spec.Volume{Path: file, Dest: "/x", ReadOnly: true}, ""},
		{spec.Volume{Path: filepath.Dir(file), Dest: "/x", Overlay: true}, ""},
		{spec.Volume{Path: file, Dest: "/x", Overlay: true}, "needs a directory"},
		{spec.Volume{Path: "/no/such", Dest: "/x"}, "no such file"},
	} {
		v, err := openVolume(tc.volume)
		if tc.want != "" {
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%+v: %v, want %q", tc.volume, err, tc.want)
			}
			continue
		}
		if err != nil || v.Dest != "/x" || v.ReadOnly != tc.volume.ReadOnly {
			t.Errorf("%+v: %+v, %v", tc.volume, v, err)
		}
		_ = v.Source.Close()
	}
}

// TestReadSecret: an ID alone is the name of a variable, else of a file; a large secret is refused.
func TestReadSecret(t *testing.T) {
	file := write(t, "f", "of the file")
	large := write(t, "large", strings.Repeat("x", maxSecret+1))
	env := environment("V=of the environment")
	for _, tc := range []struct {
		secret spec.Secret
		want   string
		err    string
	}{
		{spec.Secret{ID: "a", File: file}, "of the file", ""},
		{spec.Secret{ID: "a", Variable: "V"}, "of the environment", ""},
		{spec.Secret{ID: "V", Guess: true}, "of the environment", ""},
		{spec.Secret{ID: file, Guess: true}, "of the file", ""},
		{spec.Secret{ID: "a", Variable: "NONE"}, "", "no variable NONE"},
		{spec.Secret{ID: "a", File: large}, "", "more than"},
		{spec.Secret{ID: "no-such-secret", Guess: true}, "", "no such file"},
	} {
		got, err := readSecret(tc.secret, env)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) || strings.Contains(err.Error(), "xxx") {
				t.Errorf("%+v: %v, want %q", tc.secret, err, tc.err)
			}
			continue
		}
		if err != nil || string(got) != tc.want {
			t.Errorf("%+v: %q, %v", tc.secret, got, err)
		}
	}
}

// TestOpenDevice: devices that every RUN has are left out, and a file that is no device is refused.
func TestOpenDevice(t *testing.T) {
	for _, tc := range []struct {
		path, dest string
		found      int
		err        string
	}{
		{"/dev/null", "/dev/null", 0, ""},
		{"/dev/null", "/x", 1, ""},
		{"/dev/zero", "/dev/null", 0, "of its own"},
		{"/etc/passwd", "/x", 0, "no device"},
		{t.TempDir(), "/x", 0, "no device in it"},
	} {
		got, err := openDevices([]spec.Device{{Path: tc.path, Dest: tc.dest, From: "--device"}})
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%+v: %v", tc, err)
			}
			continue
		}
		if err != nil || len(got) != tc.found {
			t.Errorf("%+v: %v, %v", tc, got, err)
		}
	}

	twice := []spec.Device{{Path: "/dev/null", Dest: "/x"}, {Path: "/dev/zero", Dest: "/x"}}
	if _, err := openDevices(twice); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("two devices at one path: %v", err)
	}
}

func TestCheckDestination(t *testing.T) {
	file := write(t, "f", "")
	dir := filepath.Dir(file)
	for _, tc := range []struct {
		path      string
		directory bool
		want      string
	}{
		{file, false, ""},
		{dir, true, ""},
		{filepath.Join(dir, "new"), false, ""},
		{filepath.Join(dir, "new", "below"), true, ""},
		{filepath.Join(dir, "new", "below"), false, "no such file"},
		{file, true, "is not a directory"},
		{dir, false, "is a directory"},
		{"/dev/null", false, ""},
	} {
		err := checkDestination(tc.path, tc.directory)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s, directory %t: %v, want %q", tc.path, tc.directory, err, tc.want)
		}
	}
}

func TestCheckDistinct(t *testing.T) {
	a := spec.File{Path: "x", From: "--a"}
	if err := checkDistinct([]spec.File{a, {Path: "./x", From: "--b"}}); err == nil || !strings.Contains(err.Error(), "--a and --b") {
		t.Errorf("one file for two flags: %v", err)
	}
	if err := checkDistinct([]spec.File{{Path: "/dev/null", From: "--a"}, {Path: "/dev/null", From: "--b"}}); err != nil {
		t.Error(err)
	}
}

// TestTarget: a file appears under its name when it is complete, and not after an error.
func TestTarget(t *testing.T) {
	dir := t.TempDir()
	var owned []string
	own := func(path string) error {
		owned = append(owned, path)
		return nil
	}
	to := target{path: filepath.Join(dir, "out"), own: own}
	if err := to.write(t.Context(), strings.NewReader("text")); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(to.path); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
	if len(owned) != 1 {
		t.Errorf("temporary files: %q", owned)
	}

	failing := target{path: filepath.Join(dir, "failed"), own: own}
	cause := errors.New("the layer is gone")
	if err := failing.write(t.Context(), errorReader{cause}); !errors.Is(err, cause) {
		t.Error(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("files after an error: %v, %v", entries, err)
	}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

// testBuild returns a build that reports to a slice.
func testBuild(s *spec.Build, env ...string) (*build, *[]string) {
	var texts []string
	b := &build{
		engine: New(Process{Env: environment(env...)}), spec: s,
		log: listenerFunc(func(e progress.Event) { texts = append(texts, e.Text) }),
	}
	return b, &texts
}

type listenerFunc func(e progress.Event)

func (f listenerFunc) Event(e progress.Event) { f(e) }

func TestArguments(t *testing.T) {
	s := &spec.Build{Arguments: spec.Arguments{
		List:    []string{"A=flag", "SET"},
		Files:   []spec.File{{Path: write(t, "args", "A=file\nB=file\n"), From: "--build-arg-file"}},
		Proxies: true, Epoch: "5",
	}}
	b, _ := testBuild(s, "SET=env", "no_proxy=x")
	got, err := b.arguments(time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	want := spec.Args{"A": "flag", "B": "file", "SET": "env", "no_proxy": "x", "SOURCE_DATE_EPOCH": "5"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	s.Arguments = spec.Arguments{List: []string{"SOURCE_DATE_EPOCH=context"}}
	if got, err := b.arguments(time.Unix(7, 0)); err != nil || got["SOURCE_DATE_EPOCH"] != "7" {
		t.Errorf("the time of the context: %v, %v", got, err)
	}
	s.Arguments.Files = []spec.File{{Path: "/no/such", From: "--build-arg-file"}}
	if _, err := b.arguments(time.Time{}); err == nil || !strings.HasPrefix(err.Error(), "--build-arg-file: ") {
		t.Errorf("a file is missing: %v", err)
	}
}

// TestMakePlan: values that the Dockerfile does not use are reported.
func TestMakePlan(t *testing.T) {
	s := &spec.Build{
		Arguments: spec.Arguments{List: []string{"VERSIN=1"}},
		Cache:     spec.Cache{Uncached: []string{"none"}, UncachedFrom: "--no-cache-filter"},
		Plan:      spec.Plan{Contexts: map[string]string{"docs": "/docs"}},
	}
	b, texts := testBuild(s)
	in := &input{texts: []instructions.Text{{Name: "Dockerfile", Data: []byte("FROM scratch\nARG VERSION\nLABEL a=b\n")}}}
	p, err := b.makePlan(in)
	if err != nil || p.plan == nil || len(p.file.Stages) != 1 {
		t.Fatalf("%+v, %v", p, err)
	}
	for _, want := range []string{
		"--no-cache-filter none: no stage has this name", "build argument VERSIN: no ARG declares it (did you mean VERSION?)",
		"build context docs: nothing in the file names it",
	} {
		if !strings.Contains(strings.Join(*texts, "\n"), want) {
			t.Errorf("warnings %q, want %q", *texts, want)
		}
	}
}

func TestRefuseImage(t *testing.T) {
	s := &spec.Build{Plan: spec.Plan{From: "oci:/given"}, Allow: spec.Allow{ReadFrom: "--allow fs.read="}}
	if err := refuseImage("oci:/other", s); err == nil || !strings.Contains(err.Error(), "--allow fs.read=/other") {
		t.Error(err)
	}
	for _, image := range []string{"alpine:3", "oci:/given"} {
		if err := refuseImage(image, s); err != nil {
			t.Errorf("%s: %v", image, err)
		}
	}
	s.Allow.Read = []string{"/other"}
	if err := refuseImage("oci:/other", s); err != nil {
		t.Error(err)
	}
}

func TestLocalInput(t *testing.T) {
	file := write(t, "Dockerfile", "FROM scratch\n")
	dir := filepath.Dir(file)
	for _, tc := range []struct {
		input spec.Input
		texts int
		err   string
	}{
		{spec.Input{Context: dir}, 1, ""},
		{spec.Input{Context: file}, 1, ""},
		{spec.Input{Context: dir, Dockerfiles: []string{"Dockerfile", file}}, 2, ""},
		{spec.Input{Context: file, Dockerfiles: []string{"x"}, From: "--file"}, 0, "is a file: beside --file give a directory"},
		{spec.Input{Context: "/no/such"}, 0, "no such directory"},
		{spec.Input{Context: ""}, 0, "empty name"},
		{spec.Input{Context: t.TempDir(), From: "--file"}, 0, "neither a Containerfile nor a Dockerfile: name the file with --file"},
		{spec.Input{Context: dir, Dockerfiles: []string{"none"}, From: "--file"}, 0, "--file none: there is no such file"},
		{spec.Input{Context: dir, IgnoreFile: spec.File{Path: "/no/such", From: "--ignorefile"}}, 0, "--ignorefile: "},
	} {
		b, _ := testBuild(&spec.Build{Input: tc.input})
		in, err := b.openInput(t.Context(), &builder.Options{})
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%+v: %v, want %q", tc.input, err, tc.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", tc.input, err)
			continue
		}
		if len(in.texts) != tc.texts || in.tree == nil {
			t.Errorf("%+v: %d texts", tc.input, len(in.texts))
		}
		if err := in.close(); err != nil {
			t.Error(err)
		}
	}
}

// TestReport: quiet output has no lines of steps, and usage lines go to their file.
func TestReport(t *testing.T) {
	usage := filepath.Join(t.TempDir(), "usage")
	logFile := filepath.Join(t.TempDir(), "log")
	r, err := New(Process{Env: environment()}).openReport(spec.Output{
		Progress: "plain", LogFile: spec.File{Path: logFile}, UsageFile: spec.File{Path: usage},
	})
	if err != nil {
		t.Fatal(err)
	}
	step := &progress.Step{Number: 1, Total: 2, Stage: "build", Text: "RUN make"}
	r.to.Event(progress.Event{Kind: progress.StepStarted, Step: step})
	r.to.Event(progress.Event{Kind: progress.StepDone, Step: step, Elapsed: 1200 * time.Millisecond})
	if err := r.finish(); err != nil {
		t.Fatal(err)
	}

	text, err := os.ReadFile(usage)
	if diff := cmp.Diff("[build 1/2] RUN make: 1.2s\n", string(text)); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if text, err := os.ReadFile(logFile); err != nil || !strings.Contains(string(text), "RUN make") {
		t.Errorf("log %q, %v", text, err)
	}
}

// TestOptions: each value of the spec reaches the options of the loop.
func TestOptions(t *testing.T) {
	epoch := time.Unix(3, 0)
	s := &spec.Build{
		Cache:   spec.Cache{Off: true, OneLayer: true, Squash: true, Jobs: 3, TTL: time.Hour},
		Time:    spec.Time{Step: time.Minute, Silence: time.Second},
		Image:   spec.Image{Format: "docker", Labels: []spec.Label{{Key: "a"}}, Time: spec.Clock{Epoch: &epoch, Files: spec.ClampTimes}},
		Network: spec.Network{Mode: runner.None, Etc: runner.Etc{KeepHosts: true, Search: []string{"."}}},
		Allow:   spec.Allow{HostNetwork: true},
		Security: spec.Security{
			Security:    runner.Security{CapAdd: []string{"NET_RAW"}, KeepGroups: true},
			SeccompFile: spec.File{Path: "opened later"},
		},
	}
	o, err := options(s, "")
	if err != nil {
		t.Fatal(err)
	}
	if !o.Cache.Refresh || o.Cache.MaxAge != time.Hour || !o.Layers.OnePerStage || !o.Layers.Squash ||
		o.Limits != (builder.Limits{Jobs: 3, Step: time.Minute}) {
		t.Errorf("%+v", o)
	}
	if s := o.Run.Limits.Silence; s.Limit != time.Second || s.Err.Error() != "stopped: the step printed nothing for 1s (--no-output-timeout)" {
		t.Errorf("%+v", s)
	}
	if o.Layers.FileTimes != builder.ClampTimes || !o.Layers.Epoch.Equal(epoch) || o.Run.Network.Mode != runner.None || !o.Run.Network.AllowHost || len(o.Image.Labels.Set) != 1 {
		t.Errorf("%+v", o)
	}

	if diff := cmp.Diff(s.Network.Etc, o.Run.Etc, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("files below /etc (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(s.Security.Security, o.Run.Security); diff != "" {
		t.Errorf("security (-want +got):\n%s", diff)
	}

	s.Network = spec.Network{}
	if o, err := options(s, ""); err != nil || o.Run.Network.Mode != runner.Host {
		t.Errorf("without a mode RUN has network %q, %v", o.Run.Network.Mode, err)
	}
	s.Network = spec.Network{Mode: runner.Private, From: "--network private"}
	if _, err := options(s, "/no/such"); err == nil || !strings.HasPrefix(err.Error(), "--network private: ") {
		t.Errorf("without a helper: %v", err)
	}
}
