package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/record"
	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/internal/transfer"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// fakeImages records the calls of a build. Pushes to an archive write its file.
type fakeImages struct {
	calls   []string
	scratch string // parent of scratch directories
	err     error  // of all calls
}

func (f *fakeImages) Pull(_ context.Context, name string, policy transfer.Policy, _ transfer.Options) (id, found string, err error) {
	f.calls = append(f.calls, "pull "+name+" "+string(policy))
	return "id-of-" + name, "docker.io/library/" + name, f.err
}

func (f *fakeImages) Load(_ context.Context, name string, _ transfer.Options) (string, error) {
	f.calls = append(f.calls, "load "+name)
	return "id", f.err
}

func (f *fakeImages) LoadLayout(_ context.Context, dir, which string, _ transfer.Options) (string, error) {
	f.calls = append(f.calls, "layout "+dir+" "+which)
	return "id", f.err
}

func (f *fakeImages) Push(_ context.Context, image, destination string, _ transfer.PushOptions) (ocispec.Descriptor, error) {
	f.calls = append(f.calls, "push "+image+" "+strings.ReplaceAll(destination, f.scratch, "SCRATCH"))
	if path, ok := strings.CutPrefix(destination, "oci-archive:"); ok {
		path, _, _ = strings.Cut(path, ":")
		if err := os.WriteFile(path, []byte("archive"), 0o600); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	return ocispec.Descriptor{Digest: digest.FromString(destination)}, f.err
}

func (f *fakeImages) Digest(id, found string) digest.Digest { return digest.FromString(id + found) }

func (f *fakeImages) NewScratch() (dir string, release func() error, err error) {
	if f.err != nil {
		return "", nil, f.err
	}
	dir, err = os.MkdirTemp(f.scratch, "scratch")
	return dir, func() error { return os.RemoveAll(dir) }, err
}

func (f *fakeImages) OwnFile(string) error       { return nil }
func (f *fakeImages) use(*builder.Options) error { return nil }

// newBuild returns a build on fake images.
func newBuild(t *testing.T, s *spec.Build) (*build, *fakeImages) {
	t.Helper()
	f := &fakeImages{scratch: t.TempDir()}
	b, _ := testBuild(s)
	b.images = f
	b.steps = &stepLog{to: b.log}
	b.engine.Registry = func() transfer.Options { return transfer.Options{} }
	return b, f
}

func TestPuller(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct {
		name, from string
		allowed    []string
		policy     transfer.Policy
		call, err  string
	}{
		{name: "alpine:3", call: "pull alpine:3 missing"},
		{name: "alpine:3", policy: transfer.PullNever, call: "pull alpine:3 never"},
		{name: "oci:" + dir, from: "oci:" + dir, call: "load oci:" + dir},
		{name: "oci:" + dir, err: "is refused"},
		{name: "oci:" + dir, allowed: []string{filepath.Dir(dir)}, call: "load oci:/proc/self/fd/"},
		{name: "oci:" + dir, allowed: []string{"*"}, call: "load oci:/proc/self/fd/"},
		{name: "oci:" + dir, allowed: []string{"/usr"}, err: "it is not at or below /usr (allow it with --allow fs.read="},
		{name: "oci:" + dir, allowed: []string{"/no/such"}, err: "--allow fs.read=/no/such: "},
		{name: "oci:/no/such", allowed: []string{"*"}, err: "no such file"},
		{name: "containers-storage:x", err: "is a name"},
	} {
		b, f := newBuild(t, &spec.Build{
			Plan: spec.Plan{From: tc.from}, Pull: spec.Pull{Policy: tc.policy},
			Allow: spec.Allow{Read: tc.allowed, ReadFrom: "--allow fs.read="},
		})
		p := &puller{build: b}
		id, err := p.pull(t.Context(), tc.name, "linux/amd64")
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%+v: %v", tc, err)
			}
			continue
		}
		if err != nil || id == "" || len(f.calls) != 1 || !strings.HasPrefix(f.calls[0], tc.call) {
			t.Errorf("%+v: %q, %v, calls %q", tc, id, err, f.calls)
		}
	}
}

// TestOrigin: the full name of a pulled image is known afterwards.
func TestOrigin(t *testing.T) {
	b, f := newBuild(t, &spec.Build{})
	p := &puller{build: b}
	id, err := p.pull(t.Context(), "alpine", "")
	if err != nil {
		t.Fatal(err)
	}
	want := record.Base{Name: "docker.io/library/alpine", Digest: f.Digest(id, "docker.io/library/alpine")}
	if diff := cmp.Diff(want, p.origin("alpine", id)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := p.origin("other", "id"); got.Name != "" {
		t.Errorf("an image that was not pulled: %+v", got)
	}
}

// TestPinnedError: an error about a file names the path of the user.
func TestPinnedError(t *testing.T) {
	dir := t.TempDir()
	b, f := newBuild(t, &spec.Build{Allow: spec.Allow{Read: []string{"*"}}})
	f.err = errors.New("no index")
	_, err := (&puller{build: b}).pull(t.Context(), "oci:"+dir, "")
	if !errors.Is(err, f.err) || strings.Contains(err.Error(), "/proc/self/fd") {
		t.Error(err)
	}
}

func TestNamedContexts(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct {
		location, call, err string
		tree                bool
	}{
		{location: "docker-image://alpine", call: "pull alpine missing"},
		{location: "container-image://alpine", call: "pull alpine missing"},
		{location: "docker-image://scratch"},
		{location: "oci-layout://" + dir + ":1", call: "layout " + dir + " 1"},
		{location: "oci-layout://" + dir + ":1@sha256:00", call: "layout " + dir + " sha256:00"},
		{location: dir, tree: true},
		{location: "/no/such", err: "no such file"},
	} {
		b, f := newBuild(t, &spec.Build{Plan: spec.Plan{Contexts: map[string]string{"c": tc.location}}})
		n := &namedContexts{build: b, puller: &puller{build: b}}
		nc, err := n.openers()["c"](t.Context(), "")
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: %v", tc.location, err)
			}
			continue
		}
		if err != nil || (nc.Tree != nil) != tc.tree || strings.Join(f.calls, ",") != tc.call {
			t.Errorf("%s: %+v, %v, calls %q", tc.location, nc, err, f.calls)
		}
		if err := n.close(); err != nil {
			t.Error(err)
		}
	}
}

// TestCloseContexts: contexts are released in the reverse order, and all errors are returned.
func TestCloseContexts(t *testing.T) {
	var n namedContexts
	var order []int
	bad := errors.New("busy")
	for i := range 3 {
		n.hold(func() error {
			order = append(order, i)
			if i == 1 {
				return bad
			}
			return nil
		})
	}
	if err := n.close(); !errors.Is(err, bad) {
		t.Error(err)
	}
	if diff := cmp.Diff([]int{2, 1, 0}, order); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDeliver(t *testing.T) {
	out := filepath.Join(t.TempDir(), "app.tar")
	s := &spec.Build{Result: spec.Result{
		Exports: []spec.Export{
			{Kind: spec.ExportImage},
			{Kind: spec.ExportOCI, Dest: "/lay", IsDir: true},
			{Kind: spec.ExportOCI, Dest: out, Names: []string{"own"}},
		},
		Pushes: []string{"dir:./d", "docker://r.example/a:1"},
	}}
	b, f := newBuild(t, s)
	b.options.Image.Names = []string{"localhost/app:latest"}
	told, err := b.deliver(t.Context(), builder.Result{ID: "1234"})
	if err != nil {
		t.Fatal(err)
	}

	if want := digest.FromString("docker://r.example/a:1"); told.Digest != want {
		t.Errorf("manifest %s, want that of the registry", told.Digest)
	}
	if text, err := os.ReadFile(out); err != nil || string(text) != "archive" {
		t.Errorf("%q, %v", text, err)
	}
	if len(f.calls) != 4 || f.calls[0] != "push 1234 oci:/lay:localhost/app:latest" || !strings.HasSuffix(f.calls[1], ":localhost/own:latest") {
		t.Errorf("calls %q", f.calls)
	}
	if entries, err := os.ReadDir(f.scratch); err != nil || len(entries) > 0 {
		t.Errorf("scratch directories stay: %v, %v", entries, err)
	}

	f.err = errors.New("denied")
	s.Result.Exports = nil
	if _, err := b.deliver(t.Context(), builder.Result{ID: "0123456789abcdef"}); err == nil || !strings.HasPrefix(err.Error(), "image 0123456789ab is kept here") {
		t.Error(err)
	}
}

func TestAnnounce(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) spec.File { return spec.File{Path: filepath.Join(dir, name), From: "--" + name} }
	s := &spec.Build{Result: spec.Result{IDFile: path("id"), RawIDFile: path("raw"), MetadataFile: path("meta")}}
	b, _ := newBuild(t, s)
	var text strings.Builder
	b.engine.Text = &text
	b.options.Image.Names = []string{"a:1", "b:2"}
	step := &progress.Step{Text: "RUN make", Stage: "build", Line: 3}
	b.steps.Event(progress.Event{Kind: progress.StepCached, Step: step})
	b.steps.Event(progress.Event{Kind: progress.StepFailed, Step: step})

	r := builder.Result{ID: "12", Config: "sha256:12", Manifest: ocispec.Descriptor{Digest: "sha256:34"}}
	if err := b.announce(r); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"id": "sha256:12", "raw": "12"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	meta, err := os.ReadFile(filepath.Join(dir, "meta"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"containerimage.digest": "sha256:34"`, `"image.name": "a:1,b:2"`, `"name": "RUN make"`, `"cached": true`, `"line": 3`,
	} {
		if !strings.Contains(string(meta), want) {
			t.Errorf("metadata has no %s:\n%s", want, meta)
		}
	}
	if strings.Count(string(meta), "RUN make") != 1 {
		t.Errorf("metadata has a step that failed:\n%s", meta)
	}
	if text.String() != "12\n" {
		t.Errorf("printed %q", text.String())
	}

	text.Reset()
	b.spec.Result = spec.Result{Exports: []spec.Export{{Kind: spec.ExportTar, Dest: "-"}}}
	if err := b.announce(r); err != nil || text.Len() > 0 {
		t.Errorf("the ID is printed into an archive: %q, %v", text.String(), err)
	}
	if err := b.announce(builder.Result{}); err != nil {
		t.Error(err)
	}
	b.spec.Result = spec.Result{IDFile: spec.File{Path: "/no/such/file"}}
	if err := b.announce(r); err == nil || !strings.HasPrefix(err.Error(), "writing the image's ID: ") {
		t.Error(err)
	}
}

func TestPrepareExports(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "id")
	if err := os.WriteFile(stale, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &spec.Build{Result: spec.Result{
		IDFile:  spec.File{Path: stale},
		Exports: []spec.Export{{Kind: spec.ExportLocal, Dest: filepath.Join(dir, "out")}, {Kind: spec.ExportTar, Dest: filepath.Join(dir, "t")}, {Kind: spec.ExportImage}},
	}}
	b, _ := newBuild(t, s)
	outputs, err := b.prepareExports()
	if err != nil || len(outputs) != 2 {
		t.Fatalf("%d outputs, %v", len(outputs), err)
	}
	if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the ID of an earlier build stays: %v", err)
	}

	archive := makeTar(t, map[string]string{"a": "text"})
	if err := outputs[0](t.Context(), bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "out", "a")); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
	if err := outputs[1](t.Context(), bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "t")); err != nil || !bytes.Equal(text, archive) {
		t.Errorf("%d bytes, %v", len(text), err)
	}

	s.Result.Exports = []spec.Export{{Kind: spec.ExportTar, Dest: dir, From: "--output"}}
	if _, err := b.prepareExports(); err == nil || !strings.HasPrefix(err.Error(), "--output: ") {
		t.Error(err)
	}
}

// makeTar returns a tar with regular files.
func makeTar(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o644, Typeflag: tar.TypeReg, Uid: os.Getuid(), Gid: os.Getgid()}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// stdin returns a file with a text.
func stdin(t *testing.T, text []byte) *os.File {
	t.Helper()
	f, err := os.Open(write(t, "stdin", string(text)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestStdinInput(t *testing.T) {
	dockerfile := "FROM scratch\n"
	archive := makeTar(t, map[string]string{"Dockerfile": dockerfile, "sub/Other": dockerfile})
	for _, tc := range []struct {
		name  string
		input spec.Input
		stdin []byte
		from  string // name of the first text
		tree  bool
		err   string
	}{
		{name: "a Dockerfile", input: spec.Input{Context: "-"}, stdin: []byte(dockerfile), from: "Dockerfile from standard input"},
		{name: "a tar", input: spec.Input{Context: "-"}, stdin: archive, from: "Dockerfile", tree: true},
		{name: "a tar with a file", input: spec.Input{Context: "-", Dockerfiles: []string{"sub/Other"}}, stdin: archive, from: "sub/Other", tree: true},
		{name: "a file beside the tar", input: spec.Input{Context: "-", Dockerfiles: []string{"/etc/passwd"}, From: "--file", Remedy: "give it with <"}, stdin: archive, err: "--file /etc/passwd: the context has no such file (the tar on standard input)"},
		{name: "no tar beside a file", input: spec.Input{Context: "-", Dockerfiles: []string{"x"}, From: "--file"}, stdin: []byte(dockerfile), err: "is no tar: --file needs a context"},
		{
			name: "no tar beside an ignore file", input: spec.Input{Context: "-", IgnoreFile: spec.File{Path: "x", From: "--ignorefile"}},
			stdin: []byte(dockerfile), err: "is no tar: --ignorefile needs a context",
		},
		{name: "a directory", input: spec.Input{Context: t.TempDir(), Dockerfiles: []string{"-"}}, stdin: []byte(dockerfile), from: "Dockerfile from standard input", tree: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, _ := newBuild(t, &spec.Build{Input: tc.input})
			b.engine.Stdin = stdin(t, tc.stdin)
			in, err := b.openInput(t.Context(), &builder.Options{})
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("%v, want %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if in.texts[0].Name != tc.from || string(in.texts[0].Data) != dockerfile || (in.tree != nil) != tc.tree {
				t.Errorf("%+v", in)
			}
			if err := in.close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestContextLinks: a Dockerfile of the context is a regular file inside the context.
func TestContextLinks(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "Dockerfile")); err != nil {
		t.Fatal(err)
	}
	in := &input{}
	if found, err := in.readBelow(dir, "Dockerfile"); found || err == nil {
		t.Errorf("a link out of the context: %t, %v", found, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if found, err := in.readBelow(dir, "d"); found || err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %t, %v", found, err)
	}
	if found, err := in.readBelow(dir, "none"); found || err != nil {
		t.Errorf("no file: %t, %v", found, err)
	}
}

func TestDescribe(t *testing.T) {
	dir := filepath.Dir(write(t, "Dockerfile", "FROM scratch AS first\nARG V=1\nCOPY a /\nfrom first\n"))
	for _, tc := range []struct {
		call spec.Call
		want string
		err  error
	}{
		{spec.Call{Method: spec.CallTargets}, "first", nil},
		{spec.Call{Method: spec.CallTargets, JSON: true}, `"name": "first"`, nil},
		{spec.Call{Method: spec.CallOutline}, "V", nil},
		{spec.Call{Method: spec.CallCheck}, "warning", ErrFindings},
		{spec.Call{Method: spec.CallCheck, IgnoreStatus: true}, "warning", nil},
		{spec.Call{Method: spec.CallCheck, JSON: true}, `"ruleName"`, ErrFindings},
	} {
		var out strings.Builder
		log, err := os.Create(filepath.Join(t.TempDir(), "log"))
		if err != nil {
			t.Fatal(err)
		}
		e := New(Process{Env: environment(), Text: &out, Log: progress.NewStream(log, false)})
		_, err = e.Build(t.Context(), &spec.Build{Input: spec.Input{Context: dir}, Call: tc.call})
		if !errors.Is(err, tc.err) || err != nil && tc.err == nil {
			t.Errorf("%+v: %v", tc.call, err)
		}
		if !strings.Contains(out.String(), tc.want) {
			t.Errorf("%+v: %q, want %q", tc.call, out.String(), tc.want)
		}
		_ = log.Close()
	}
}

func TestProgressModes(t *testing.T) {
	for _, tc := range []struct{ mode, want string }{
		{"plain", "RUN make"}, {"auto", "RUN make"}, {"", "RUN make"}, {"rawjson", `"kind":"started"`}, {"quiet", ""}, {"none", ""},
	} {
		path := filepath.Join(t.TempDir(), "log")
		r, err := New(Process{Env: environment()}).openReport(spec.Output{Progress: tc.mode, LogFile: spec.File{Path: path}})
		if err != nil {
			t.Fatal(err)
		}
		r.to.Event(progress.Event{Kind: progress.StepStarted, Step: &progress.Step{Number: 1, Total: 1, Text: "RUN make"}})
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(text), tc.want) || tc.want == "" && len(text) > 0 {
			t.Errorf("%q: %q, %v; want %q", tc.mode, text, err, tc.want)
		}
	}

	for _, s := range []spec.Output{
		{LogFile: spec.File{Path: "/no/such/log", From: "--logfile"}},
		{UsageFile: spec.File{Path: "/no/such/log", From: "--rusage-logfile"}, Progress: "none"},
	} {
		log := progress.NewStream(stdin(t, nil), false)
		_, err := New(Process{Env: environment(), Log: log}).openReport(s)
		if err == nil || !strings.HasPrefix(err.Error(), s.LogFile.From+s.UsageFile.From+": ") {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// TestStepInput: RUN gets a pipe, and never a file or a directory.
func TestStepInput(t *testing.T) {
	in, err := stepInput(stdin(t, []byte("text")))
	if err != nil {
		t.Fatal(err)
	}
	info, err := in.Stat()
	if err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if text, err := io.ReadAll(in); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}

	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if same, err := stepInput(r); err != nil || same != r {
		t.Errorf("a pipe: %v", err)
	}
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if _, err := stepInput(dir); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("a directory: %v", err)
	}
}

// TestInterruptible: a read that blocks ends with the context.
func TestInterruptible(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	defer r.Close()
	cause := errors.New("the user is impatient")
	ctx, cancel := context.WithCancelCause(t.Context())
	in := Interruptible(ctx, r)
	cancel(cause)
	if _, err := in.Read(make([]byte, 1)); !errors.Is(err, cause) {
		t.Error(err)
	}
}

func TestAccess(t *testing.T) {
	no := false
	file := write(t, "auth.json", "{}")
	o, err := Access(transfer.Options{}, spec.Access{
		AuthFile: spec.File{Path: file}, CertDir: "c", Creds: "u:p", TLSVerify: &no, Retries: -1,
	})
	if err != nil || o.AuthFile != file || o.CertDir != "c" || o.Creds != "u:p" || o.TLSVerify != &no || o.Retries != -1 {
		t.Errorf("%+v, %v", o, err)
	}

	base := transfer.Options{}
	base.AuthFile = "given"
	if o, err := Access(base, spec.Access{}); err != nil || o.AuthFile != "given" {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := Access(base, spec.Access{AuthFile: spec.File{Path: "/no/such", From: "--authfile"}}); err == nil || !strings.HasPrefix(err.Error(), "--authfile: ") {
		t.Error(err)
	}
}

// TestLimitFlags: an error about a limit names the flags that asked for it, once, and the remedy.
func TestLimitFlags(t *testing.T) {
	c := &stepCgroups{spec: spec.Limits{
		Flags: []spec.LimitFlag{
			{Name: "--memory", Controller: "memory"},
			{Name: "--memory-swap", Controller: "swap"},
			{Name: "--memory-swap", Controller: "memory"},
			{Name: "--cpus", Controller: "cpu"},
		},
		Remedy: "with --limits=best-effort the build runs without",
	}, err: errors.New("no cgroup")}
	c.spec.Asked.Memory = 1 << 20
	if got := c.flags([]string{"memory", "swap"}); got != "--memory, --memory-swap" {
		t.Errorf("%q", got)
	}
	want := "--memory, --memory-swap cannot be enforced here: no cgroup; with --limits=best-effort the build runs without"
	if err := c.refuse(); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestReportLimits: limits of containers.conf that are not in force are reported once; the default alone is not.
func TestReportLimits(t *testing.T) {
	for configured, want := range map[bool]int{true: 1, false: 0} {
		n := 0
		c := &stepCgroups{spec: spec.Limits{Configured: configured}, warn: func(string) { n++ }}
		for range 2 {
			c.report(errors.New("no controller"))
		}
		c.report(nil)
		if n != want {
			t.Errorf("configured %t: %d warnings, want %d", configured, n, want)
		}
	}
}

// TestSingleOwner: with a single ID only files of root can be made.
func TestSingleOwner(t *testing.T) {
	e := New(Process{State: &userns.State{Mode: userns.Single, Warnings: []string{"one ID is mapped"}}})
	if err := e.singleOwner(0, 0); err != nil {
		t.Error(err)
	}
	if err := e.singleOwner(1, 0); err == nil || err.Error() != "one ID is mapped" {
		t.Error(err)
	}
}

// TestWithoutNamespace: only a refused namespace leads to the layout, and only in the launcher.
func TestWithoutNamespace(t *testing.T) {
	root := t.TempDir()
	e := New(Process{Env: environment(), Registry: func() transfer.Options { return transfer.Options{} }})
	e.Store.GraphRoot = root
	e.Store.RunRoot = t.TempDir()
	other := errors.New("other")
	if _, err := e.withoutNamespace(other); !errors.Is(err, other) {
		t.Error(err)
	}

	refused := &userns.Error{Reason: userns.Forbidden, Detail: "seccomp"}
	l, err := e.withoutNamespace(refused)
	if err != nil {
		t.Fatal(err)
	}
	if l.Dir() != filepath.Join(root, LayoutName) || !strings.Contains(l.notice, "(seccomp)") {
		t.Errorf("%s: %q", l.Dir(), l.notice)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}

	e.State = &userns.State{}
	if _, err := e.withoutNamespace(refused); !errors.Is(err, refused) {
		t.Errorf("in the builder: %v", err)
	}
}
