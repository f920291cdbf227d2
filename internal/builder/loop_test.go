package builder_test

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/cache"
	"codeberg.org/rbuild/rbuild/internal/copier"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/record"
	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/internal/rootfs/memory"
	"codeberg.org/rbuild/rbuild/internal/rootfs/rootfstest"
	"codeberg.org/rbuild/rbuild/internal/runner"
	"codeberg.org/rbuild/rbuild/pkg/commit"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// The tests of this file build in memory: they need no namespace and no store.

// loop is a layout with the images of a test, and a context.
type loop struct {
	t       *testing.T
	layout  *rootfstest.Layout
	dir     string // the context
	log     *recorder
	mu      sync.Mutex
	written []string // manifests
	names   []string // of images: "NAME"
	files   []string // of the target: "path=content"
}

func newLoop(t *testing.T) *loop {
	l := &loop{t: t, layout: rootfstest.NewLayout(t), dir: t.TempDir(), log: &recorder{}}
	l.write("a", "1")
	l.write("sub/b", "2")
	return l
}

// write makes a file of the context.
func (l *loop) write(name, text string) {
	l.t.Helper()
	path := filepath.Join(l.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		l.t.Fatal(err)
	}
}

// PutImage records an image in the layout, as commit.Images has it.
func (l *loop) PutImage(d commit.Documents) (string, []byte, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(d.Manifest, &m); err != nil {
		return "", nil, err
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	id := digest.FromBytes(d.Config).Encoded()
	l.layout.Configs[id], l.layout.Layers[id] = d.Config, m.Layers
	l.written = append(l.written, string(d.Manifest))
	l.names = append(l.names, d.Names...)
	return id, d.Manifest, nil
}

// NameImage names an image of the layout.
func (l *loop) NameImage(id string, names []string) ([]byte, error) {
	if _, ok := l.layout.Configs[id]; !ok {
		return nil, fmt.Errorf("no image %s", id)
	}
	l.names = append(l.names, names...)
	return []byte(`{"config":{"digest":"sha256:` + id + `"}}`), nil
}

// options are those of a build in memory that gives the files of the target to l.files.
func (l *loop) options(dockerfile string, po plan.Options) builder.Options {
	l.t.Helper()
	file, err := instructions.Parse("Dockerfile", []byte(dockerfile))
	if err != nil {
		l.t.Fatal(err)
	}
	po.Platform = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	p, err := plan.New(file, po)
	if err != nil {
		l.t.Fatal(err)
	}
	tree, err := copier.OpenContext(l.dir, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { tree.Close() })

	at := time.Unix(0, 0)
	return builder.Options{
		Plan: p,
		Inputs: builder.Inputs{
			Context: tree,
			Pull: func(_ context.Context, name, _ string) (string, error) {
				if _, ok := l.layout.Configs[name]; !ok {
					return "", fmt.Errorf("%s: not found", name)
				}
				return name, nil
			},
		},
		Files:    func(warn func(string)) (rootfs.Backend, error) { return memory.Open(l.layout, warn) },
		Images:   l,
		Layers:   builder.LayerOptions{Epoch: &at, FileTimes: builder.SetTimes},
		Outputs:  []builder.Output{l.take},
		Run:      runner.Options{Machine: po.Platform},
		Listener: l.log,
	}
}

// take is a builder.Output.
func (l *loop) take(_ context.Context, r io.Reader) error {
	l.files = nil
	for in := tar.NewReader(r); ; {
		hdr, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		data, err := io.ReadAll(in)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(hdr.Name, "./")
		if hdr.Typeflag == tar.TypeReg {
			name += "=" + string(data)
		}
		if name != "" {
			l.files = append(l.files, name)
		}
	}
}

// config reads the config of an image.
func (l *loop) config(id string) instructions.Image {
	l.t.Helper()
	var image instructions.Image
	if err := json.Unmarshal(l.layout.Configs[id], &image); err != nil {
		l.t.Fatal(err)
	}
	return image
}

// base records an image that a FROM can name.
func (l *loop) base(name, dockerfile string) {
	l.t.Helper()
	o := l.options(dockerfile, plan.Options{})
	o.Outputs = nil
	r, err := builder.Build(l.t.Context(), o)
	if err != nil {
		l.t.Fatal(err)
	}
	l.layout.Configs[name], l.layout.Layers[name] = l.layout.Configs[r.ID], l.layout.Layers[r.ID]
	l.written, l.names, l.log.events = nil, nil, nil
}

// history lists the entries of a config: "+" before those that have a layer.
func history(image instructions.Image) (out []string) {
	for _, h := range image.History {
		text := h.CreatedBy
		if !h.EmptyLayer {
			text = "+" + text
		}
		out = append(out, text)
	}
	return out
}

func TestStages(t *testing.T) {
	onePerStage := func(o *builder.Options) { o.Layers.OnePerStage = true }
	squash := func(o *builder.Options) { o.Layers.Squash = true }
	for _, tc := range []struct {
		name       string
		dockerfile string
		change     func(*builder.Options)
		files      []string
		history    []string
	}{
		{
			name: "nothing", dockerfile: "FROM scratch",
		},
		{
			name: "copy", dockerfile: "FROM scratch\nCOPY a /x\nCOPY . /c/",
			files:   []string{"c/", "c/a=1", "c/sub/", "c/sub/b=2", "x=1"},
			history: []string{"+COPY a /x", "+COPY . /c/"},
		},
		{
			name: "config only", dockerfile: "FROM scratch\nENV A=1\nLABEL l=v",
			history: []string{"ENV A=1", "LABEL l=v"},
		},
		{
			name: "directories", dockerfile: "FROM scratch\nWORKDIR /w/d\nCOPY a .\nWORKDIR /w",
			files:   []string{"w/", "w/d/", "w/d/a=1"},
			history: []string{"+WORKDIR /w/d", "+COPY a .", "WORKDIR /w"},
		},
		{
			name: "here-document", dockerfile: "FROM scratch\nCOPY <<h /h\ntext\nh\n",
			files: []string{"h=text\n"}, history: []string{"+COPY <<h /h"},
		},
		{
			name: "stages", dockerfile: "FROM scratch AS one\nCOPY a /1\nFROM one AS two\nCOPY sub/b /2\nFROM scratch\nCOPY --from=two / /all/",
			files: []string{"all/", "all/1=1", "all/2=2"}, history: []string{"+COPY / /all/"},
		},
		{
			name: "stage on a stage", dockerfile: "FROM scratch AS one\nCOPY a /1\nFROM one\nCOPY a /2",
			files: []string{"1=1", "2=1"}, history: []string{"+COPY a /1", "+COPY a /2"},
		},
		{
			name: "link", dockerfile: "FROM scratch\nCOPY a /d/1\nCOPY --link sub/b /d/2",
			files: []string{"d/", "d/1=1", "d/2=2"}, history: []string{"+COPY a /d/1", "+COPY sub/b /d/2"},
		},
		{
			name: "one layer a stage", dockerfile: "FROM scratch\nCOPY a /1\nENV A=1\nCOPY a /2\nLABEL l=v", change: onePerStage,
			files: []string{"1=1", "2=1"}, history: []string{"COPY a /1", "ENV A=1", "COPY a /2", "+LABEL l=v"},
		},
		{
			name: "one layer without files", dockerfile: "FROM scratch\nENV A=1", change: onePerStage,
			history: []string{"ENV A=1"},
		},
		{
			name: "one layer on a base", dockerfile: "FROM base\nCOPY a /1\nCOPY a /2", change: onePerStage,
			files: []string{"1=1", "2=1", "base=1"}, history: []string{"+COPY a /base", "COPY a /1", "+COPY a /2"},
		},
		{
			name: "squash", dockerfile: "FROM base\nCOPY a /1\nENV A=1\nCOPY a /2", change: squash,
			files: []string{"1=1", "2=1", "base=1"}, history: []string{"COPY a /1", "ENV A=1", "+COPY a /2"},
		},
		{
			name: "squash a base alone", dockerfile: "FROM base", change: squash,
			files: []string{"base=1"}, history: []string{"+FROM base"},
		},
		{
			name: "triggers of a base", dockerfile: "FROM onbuild\nCOPY sub/b /2",
			files:   []string{"2=2", "base=1", "trigger=1"},
			history: []string{"+COPY a /base", "+COPY a /trigger", "+COPY sub/b /2"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLoop(t)
			l.base("base", "FROM scratch\nCOPY a /base")
			l.base("onbuild", "FROM scratch\nCOPY a /base\nONBUILD COPY a /trigger")
			o := l.options(tc.dockerfile, plan.Options{})
			if tc.change != nil {
				tc.change(&o)
			}
			r, err := builder.Build(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}

			if diff := cmp.Diff(tc.files, l.files); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			image := l.config(r.ID)
			if diff := cmp.Diff(tc.history, history(image)); diff != "" {
				t.Errorf("history (-want +got):\n%s", diff)
			}
			layers := len(slices.DeleteFunc(slices.Clone(tc.history), func(h string) bool { return h[0] != '+' }))
			if got := len(image.RootFS.DiffIDs); got != layers {
				t.Errorf("%d layers, want %d", got, layers)
			}
		})
	}
}

// TestImageThatIsThere shows that a build which changes nothing of its base gives the base the names.
func TestImageThatIsThere(t *testing.T) {
	for _, tc := range []struct {
		name       string
		dockerfile string
		change     func(*builder.Options)
		made       int
	}{
		{"nothing changes", "FROM base", func(*builder.Options) {}, 0},
		{"a step", "FROM base\nENV A=1", func(*builder.Options) {}, 1},
		{"a label", "FROM base", func(o *builder.Options) { o.Image.Labels.Set = []record.Label{{Key: "a"}} }, 1},
		{"an annotation", "FROM base", func(o *builder.Options) { o.Image.Annotations.Set = map[string]string{"a": "b"} }, 1},
		{"another format", "FROM base", func(o *builder.Options) { o.Image.Format = commit.Docker }, 1},
		{"any format", "FROM base", func(o *builder.Options) { o.Image.Format, o.Image.AnyFormat = commit.Docker, true }, 0},
		{"no history", "FROM base", func(o *builder.Options) { o.Image.NoHistory = true }, 1},
		{"an annotation of the base less", "FROM base", func(o *builder.Options) { o.Image.Annotations.Unset = []string{"id"} }, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLoop(t)
			l.base("base", "FROM scratch\nCOPY a /base")
			o := l.options(tc.dockerfile, plan.Options{})
			o.Image.Names = []string{"localhost/app:latest"}
			tc.change(&o)
			if _, err := builder.Build(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			if len(l.written) != tc.made {
				t.Errorf("%d images were made, want %d", len(l.written), tc.made)
			}
			if diff := cmp.Diff([]string{"localhost/app:latest"}, l.names); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNamedContexts(t *testing.T) {
	other := t.TempDir()
	if err := os.WriteFile(other+"/o", []byte("3"), 0o600); err != nil {
		t.Fatal(err)
	}
	tree, err := copier.OpenContext(other, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()

	opened := 0
	contexts := map[string]builder.OpenContext{
		"dir": func(context.Context, string) (builder.NamedContext, error) {
			opened++
			return builder.NamedContext{Tree: tree}, nil
		},
		"image": func(context.Context, string) (builder.NamedContext, error) {
			return builder.NamedContext{Image: "base"}, nil
		},
		"none": func(context.Context, string) (builder.NamedContext, error) { return builder.NamedContext{}, nil },
		"bad": func(context.Context, string) (builder.NamedContext, error) {
			return builder.NamedContext{}, errors.New("broken")
		},
	}
	for _, tc := range []struct {
		name        string
		dockerfile  string
		onePerStage bool
		files       []string
		err         string
	}{
		{name: "copy", dockerfile: "FROM scratch\nCOPY --from=dir o /o\nCOPY --from=dir o /p", files: []string{"o=3", "p=3"}},
		{name: "base", dockerfile: "FROM dir\nCOPY a /a", files: []string{"a=1", "o=3"}},
		{name: "base with one layer", dockerfile: "FROM dir\nCOPY a /a", onePerStage: true, files: []string{"a=1", "o=3"}},
		{name: "image", dockerfile: "FROM image\nCOPY --from=image base /b", files: []string{"b=1", "base=1"}},
		{name: "scratch", dockerfile: "FROM none\nCOPY a /a", files: []string{"a=1"}},
		{name: "broken", dockerfile: "FROM bad\nCOPY a /a", err: "build context bad: broken"},
		{name: "broken, in a copy", dockerfile: "FROM scratch\nCOPY --from=bad a /a", err: "Dockerfile:2: COPY --from=bad a /a: build context bad: broken"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			opened = 0
			l := newLoop(t)
			l.base("base", "FROM scratch\nCOPY a /base")
			o := l.options(tc.dockerfile, plan.Options{Contexts: []string{"dir", "image", "none", "bad"}})
			o.Inputs.Contexts = contexts
			o.Layers.OnePerStage = tc.onePerStage
			_, err := builder.Build(t.Context(), o)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.files, l.files); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if opened > 1 {
				t.Errorf("the directory was opened %d times", opened)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	for _, tc := range []struct {
		name       string
		dockerfile string
		change     func(*builder.Options)
		want       string
	}{
		{"a missing file", "FROM scratch\n\nCOPY missing /", nil, "Dockerfile:3: COPY missing /"},
		{"a missing image", "FROM missing", nil, "Dockerfile:1: FROM missing: missing: not found"},
		{"almost a stage", "FROM scratch AS builder\nFROM bulider", nil, "did you mean the stage builder?"},
		{"a run", "FROM scratch\nRUN a", nil, "Dockerfile:2: RUN a: RUN needs a user namespace"},
		{"a user who is unknown", "FROM scratch\nCOPY --chown=nobody a /", nil, "--chown=nobody"},
		{
			"a link in one layer", "FROM scratch\nCOPY --link a /", func(o *builder.Options) { o.Layers.OnePerStage = true },
			"--link makes a layer that does not depend on those below",
		},
		{"no context", "FROM scratch\nCOPY a /", func(o *builder.Options) { o.Inputs.Context = nil }, "there is no build context to copy from"},
		{
			"the host's fault", "FROM scratch\nRUN a",
			func(o *builder.Options) {
				o.Explain = func(err error) error { return fmt.Errorf("explained: %w", err) }
			},
			"explained: RUN needs",
		},
		{
			"no backend", "FROM scratch",
			func(o *builder.Options) {
				o.Files = func(func(string)) (rootfs.Backend, error) { return nil, errors.New("no room") }
			},
			"no room",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLoop(t)
			o := l.options(tc.dockerfile, plan.Options{})
			if tc.change != nil {
				tc.change(&o)
			}
			_, err := builder.Build(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
			if len(l.written) > 0 {
				t.Error("an image was recorded")
			}
		})
	}
}

// TestOneStageFails shows that the first failure ends the other stages, and that only the step at fault has failed.
func TestOneStageFails(t *testing.T) {
	l := newLoop(t)
	o := l.options("FROM slow\nCOPY a /\nFROM scratch\nCOPY missing /\nCOPY --from=0 /a /", plan.Options{})
	o.Inputs.Pull = func(ctx context.Context, _, _ string) (string, error) {
		<-ctx.Done()
		return "", context.Cause(ctx)
	}
	_, err := builder.Build(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "Dockerfile:4: COPY missing /") {
		t.Errorf("error %v", err)
	}
}

func TestCancel(t *testing.T) {
	l := newLoop(t)
	o := l.options("FROM slow\nCOPY a /", plan.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	o.Inputs.Pull = func(ctx context.Context, _, _ string) (string, error) {
		cancel()
		<-ctx.Done()
		return "", ctx.Err()
	}
	if _, err := builder.Build(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestTimeout shows that a limit ends the slow step only, and that the error names it.
func TestTimeout(t *testing.T) {
	l := newLoop(t)
	o := l.options("FROM slow\nCOPY a /\nFROM scratch\nCOPY --from=0 /a /", plan.Options{})
	o.Limits.Step = 50 * time.Millisecond
	o.Inputs.Pull = func(ctx context.Context, _, _ string) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}
	_, err := builder.Build(t.Context(), o)
	limit := (*builder.TimeoutError)(nil)
	if !errors.As(err, &limit) || limit.Flag != "--step-timeout" || !strings.Contains(err.Error(), "Dockerfile:1: FROM slow") {
		t.Errorf("error %v", err)
	}
}

// fakeCache remembers calls, and finds what unchanged says.
type fakeCache struct {
	unchanged func(id cache.ID) bool
	entry     *cache.Entry // found for every step; nil: none
	last      *cache.Entry // of Put; nil: none

	mu   sync.Mutex
	gets []cache.ID
	puts []cache.ID
}

func (c *fakeCache) Get(ctx context.Context, id cache.ID, parent cache.Parent) (cache.Entry, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gets = append(c.gets, id)
	if _, err := parent(ctx); err != nil {
		return cache.Entry{}, false, err
	}
	if c.entry != nil {
		return *c.entry, true, nil
	}
	return cache.Entry{Unchanged: true}, c.unchanged != nil && c.unchanged(id), nil
}

func (c *fakeCache) Put(_ context.Context, id cache.ID, e cache.Entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.puts = append(c.puts, id)
	c.last = &e
	return nil
}

func TestCache(t *testing.T) {
	const twoSteps = "FROM scratch AS named\nCOPY a /1\nCOPY a /2"
	hit := func(cache.ID) bool { return true }
	for _, tc := range []struct {
		name       string
		dockerfile string
		cache      *fakeCache
		change     func(*builder.Options)
		gets, puts int
		files      []string
	}{
		{"a miss ends the look-ups", twoSteps, &fakeCache{}, nil, 1, 2, []string{"1=1", "2=1"}},
		{"hits", twoSteps, &fakeCache{unchanged: hit}, nil, 2, 0, nil},
		{"refresh", twoSteps, &fakeCache{unchanged: hit}, func(o *builder.Options) { o.Cache.Refresh = true }, 0, 2, []string{"1=1", "2=1"}},
		{"a stage", twoSteps, &fakeCache{unchanged: hit}, func(o *builder.Options) { o.Cache.Uncached = []string{"NAMED"} }, 0, 2, []string{"1=1", "2=1"}},
		{"another stage", twoSteps, &fakeCache{unchanged: hit}, func(o *builder.Options) { o.Cache.Uncached = []string{"other"} }, 2, 0, nil},
		{"one layer a stage", twoSteps, &fakeCache{unchanged: hit}, func(o *builder.Options) { o.Layers.OnePerStage = true }, 0, 0, []string{"1=1", "2=1"}},
		{"squash", twoSteps, &fakeCache{}, func(o *builder.Options) { o.Layers.Squash = true }, 2, 3, []string{"1=1", "2=1"}},
		{"a step without a change", "FROM scratch\nCOPY a /d/\nWORKDIR /d", &fakeCache{}, nil, 1, 2, []string{"d/", "d/a=1"}},
		{"no files", "FROM scratch\nENV A=1", &fakeCache{}, nil, 0, 0, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLoop(t)
			o := l.options(tc.dockerfile, plan.Options{})
			o.Cache.Cache = tc.cache
			if tc.change != nil {
				tc.change(&o)
			}
			if _, err := builder.Build(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			if len(tc.cache.gets) != tc.gets || len(tc.cache.puts) != tc.puts {
				t.Errorf("%d look-ups and %d results, want %d and %d", len(tc.cache.gets), len(tc.cache.puts), tc.gets, tc.puts)
			}
			if diff := cmp.Diff(tc.files, l.files); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLayersOfTheCache has a cache that finds a layer for each step: first a layer that was removed, which runs the steps,
// then the layer that the first build made.
func TestLayersOfTheCache(t *testing.T) {
	l := newLoop(t)
	c := &fakeCache{entry: &cache.Entry{Layer: commit.Layer{ID: "x", DiffID: digest.FromString("removed")}}}
	build := func(dockerfile string, gets, puts int, files ...string) {
		t.Helper()
		c.gets = nil
		c.puts = nil
		o := l.options(dockerfile, plan.Options{})
		o.Cache.Cache = c
		if _, err := builder.Build(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if len(c.gets) != gets || len(c.puts) != puts {
			t.Errorf("%d look-ups and %d results, want %d and %d", len(c.gets), len(c.puts), gets, puts)
		}
		if diff := cmp.Diff(files, l.files); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
	}

	build("FROM scratch\nCOPY a /1", 1, 1, "1=1")
	c.entry = c.last
	build("FROM scratch\nCOPY a /2", 1, 0, "1=1")
}

// TestKeysOfSteps builds variants of a step and compares the IDs that they look up.
func TestKeysOfSteps(t *testing.T) {
	seen := map[cache.ID]string{}
	for _, tc := range []struct {
		name       string
		dockerfile string
		context    string // of file a
		change     func(*builder.Options)
	}{
		{"plain", "FROM scratch\nCOPY a /", "1", nil},
		{"another destination", "FROM scratch\nCOPY a /b", "1", nil},
		{"another content", "FROM scratch\nCOPY a /", "2", nil},
		{"another base", "FROM base\nCOPY a /", "1", nil},
		{"another platform", "FROM --platform=linux/arm64 scratch\nCOPY a /", "1", nil},
		{"other times", "FROM scratch\nCOPY a /", "1", func(o *builder.Options) { o.Layers.FileTimes = builder.ClampTimes }},
		{"times kept", "FROM scratch\nCOPY a /", "1", func(o *builder.Options) { o.Layers.FileTimes = builder.KeepTimes }},
	} {
		l := newLoop(t)
		l.base("base", "FROM scratch\nCOPY a /base")
		l.write("a", tc.context)
		o := l.options(tc.dockerfile, plan.Options{})
		if tc.change != nil {
			tc.change(&o)
		}
		c := &fakeCache{}
		o.Cache.Cache = c
		if _, err := builder.Build(t.Context(), o); err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if other, ok := seen[c.gets[0]]; ok {
			t.Errorf("%s has the key of %s", tc.name, other)
		}
		seen[c.gets[0]] = tc.name
	}
}

func TestSaveStages(t *testing.T) {
	l := newLoop(t)
	o := l.options("FROM scratch AS one\nCOPY a /1\nFROM one AS two\nCOPY a /2\nFROM two\nLABEL x=dockerfile\nCOPY a /3", plan.Options{})
	o.Image.Stages = record.StageImages{Save: true, Describe: true, Labels: []record.Label{{Key: "l", Value: "1"}}}
	o.Image.Labels.Set = []record.Label{{Key: "x", Value: "line"}}
	r, err := builder.Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.written) != 3 {
		t.Errorf("%d images, want 3", len(l.written))
	}
	labels := l.config(r.ID).Config.Labels
	if labels["io.buildah.stage.name"] != "2" || len(labels["io.buildah.stage.base"]) != 64 || labels["x"] != "line" || labels["l"] != "" {
		t.Errorf("labels of the target: %v", labels)
	}
	notices := strings.Join(l.log.events, "\n")
	for _, want := range []string{"stage one is image ", "stage two is image "} {
		if !strings.Contains(notices, want) {
			t.Errorf("no notice %q in\n%s", want, notices)
		}
	}
}

func TestAnnotations(t *testing.T) {
	l := newLoop(t)
	l.base("base", "FROM scratch\nCOPY a /base")
	o := l.options("FROM base\nCOPY a /1", plan.Options{})
	o.Inputs.Origin = func(name, id string) record.Base {
		return record.Base{Name: "docker.io/" + name, Digest: digest.FromString(id)}
	}
	o.Image.Annotations = record.AnnotationOptions{Set: map[string]string{"mine": "1"}, Unset: []string{"id"}, Created: true}
	if _, err := builder.Build(t.Context(), o); err != nil {
		t.Fatal(err)
	}

	var m ocispec.Manifest
	if err := json.Unmarshal([]byte(l.written[0]), &m); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"mine":                            "1",
		ocispec.AnnotationBaseImageName:   "docker.io/base",
		ocispec.AnnotationBaseImageDigest: digest.FromString("base").String(),
		ocispec.AnnotationCreated:         "1970-01-01T00:00:00Z",
	}
	if diff := cmp.Diff(want, m.Annotations); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestHistoryTimes shows the time of each entry: of the base for steps without files, so that a build gives the same image
// again, and of the layer or the epoch for the others.
func TestHistoryTimes(t *testing.T) {
	l := newLoop(t)
	at := time.Unix(1000, 0)
	o := l.options("FROM scratch\nENV A=1", plan.Options{})
	o.Layers = builder.LayerOptions{}
	r, err := builder.Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if got := l.config(r.ID).History[0].Created; got == nil || got.Unix() != 0 {
		t.Errorf("a step without files on scratch is of %v", got)
	}

	o = l.options("FROM scratch\nENV A=1\nCOPY a /", plan.Options{})
	o.Layers = builder.LayerOptions{Epoch: &at}
	if r, err = builder.Build(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	image := l.config(r.ID)
	for _, h := range image.History {
		if !h.Created.Equal(at) {
			t.Errorf("%s is of %v", h.CreatedBy, h.Created)
		}
	}
	if !image.Created.Equal(at) {
		t.Errorf("the image is of %v", image.Created)
	}
}

// TestOutputs shows that every output gets the same tar, and that an error of an output ends the build.
func TestOutputs(t *testing.T) {
	l := newLoop(t)
	o := l.options("FROM scratch\nCOPY a /1", plan.Options{})
	var sums []digest.Digest
	sum := func(_ context.Context, r io.Reader) error {
		d, err := digest.FromReader(r)
		sums = append(sums, d)
		return err
	}
	o.Outputs = []builder.Output{sum, sum}
	o.Image.None = true
	r, err := builder.Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(sums) != 2 || sums[0] != sums[1] || r.ID != "" || len(l.written) > 0 {
		t.Errorf("digests %v, image %q", sums, r.ID)
	}

	full := errors.New("disk full")
	o = l.options("FROM scratch\nCOPY a /1", plan.Options{})
	o.Outputs = []builder.Output{func(context.Context, io.Reader) error { return full }}
	if _, err := builder.Build(t.Context(), o); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
}

// TestSlots shows that at most Limits.Jobs steps write files at the same time.
func TestSlots(t *testing.T) {
	l := newLoop(t)
	var text strings.Builder
	for i := range 6 {
		fmt.Fprintf(&text, "FROM scratch AS s%d\nCOPY . /%d/\n", i, i)
	}
	text.WriteString("FROM scratch\n")
	for i := range 6 {
		fmt.Fprintf(&text, "COPY --from=s%d / /\n", i)
	}
	o := l.options(text.String(), plan.Options{})
	o.Limits.Jobs = 1
	if _, err := builder.Build(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if len(l.files) != 6*4 {
		t.Errorf("%d files: %q", len(l.files), l.files)
	}
}

func TestSourceDateEpochOfTheContext(t *testing.T) {
	l := newLoop(t)
	o := l.options("FROM scratch\nCOPY a /", plan.Options{BuildArgs: map[string]string{"SOURCE_DATE_EPOCH": "context"}})
	o.Layers = builder.LayerOptions{}
	if _, err := builder.Build(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if events := strings.Join(l.log.events, "\n"); !strings.Contains(events, "SOURCE_DATE_EPOCH has no effect") {
		t.Errorf("no warning in\n%s", events)
	}
}
