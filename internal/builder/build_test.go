package builder_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	cs "go.podman.io/storage"
	"go.podman.io/storage/pkg/mount"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/cache"
	"codeberg.org/rbuild/rbuild/internal/copier"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/internal/rootfs/overlay"
	"codeberg.org/rbuild/rbuild/internal/runner"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// bench is a store and a context with a static busybox.
type bench struct {
	t     *testing.T
	store *containers.Store
	dir   string // the context
	log   *recorder
}

// recorder keeps what a build reports.
type recorder struct {
	mu     sync.Mutex
	events []string // "kind text"
	output strings.Builder
}

func (r *recorder) Event(e progress.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case e.Kind == progress.StepOutput:
		r.output.Write(e.Data)
	case e.Step != nil:
		r.events = append(r.events, fmt.Sprint(e.Kind, " ", e.Step.Text))
	default:
		r.events = append(r.events, fmt.Sprint(e.Kind, " ", e.Text))
	}
}

// library returns the library's own handle of the store.
func (b *bench) library() cs.Store {
	lib, err := cs.GetStore(cs.StoreOptions{GraphRoot: b.store.GraphRoot(), RunRoot: b.store.RunRoot(), GraphDriverName: "overlay"})
	if err != nil {
		b.t.Fatal(err)
	}
	return lib
}

func newBench(t *testing.T) *bench {
	t.Helper()
	nstest.Need(t)
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs a static busybox at /bin/busybox (Debian: apt install busybox-static)")
	}
	b := &bench{t: t, dir: t.TempDir(), log: &recorder{}}
	if err := os.WriteFile(filepath.Join(b.dir, "busybox"), busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	b.store, err = containers.Open(containers.Options{GraphRoot: home + "/root", RunRoot: home + "/run", Driver: "overlay"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		left, err := os.ReadDir(home + "/root/overlay/tempdirs")
		if err != nil || len(left) > 0 {
			t.Errorf("staging directories are left: %v, %v", left, err)
		}
		if err := errors.Join(b.store.Close(), mount.Unmount(home+"/root/overlay")); err != nil {
			t.Error(err)
		}
	})

	return b
}

// base is a stage that the tests' Dockerfiles begin with.
const base = "FROM scratch AS base\nCOPY busybox /bin/\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n"

func (b *bench) build(ctx context.Context, dockerfile string, change func(*builder.Options)) (builder.Result, error) {
	b.t.Helper()
	file, err := instructions.Parse("Dockerfile", []byte(dockerfile))
	if err != nil {
		b.t.Fatal(err)
	}
	host := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	p, err := plan.New(file, plan.Options{Platform: host})
	if err != nil {
		b.t.Fatal(err)
	}
	tree, err := copier.OpenContext(b.dir, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	defer tree.Close()

	o := builder.Options{
		Plan: p,
		Inputs: builder.Inputs{
			Context: tree,
			Pull:    func(context.Context, string, string) (string, error) { return "", errors.New("no registry here") },
		},
		Files: func(warn func(string)) (rootfs.Backend, error) {
			return overlay.Open(b.store, overlay.Options{Warn: warn})
		},
		Images: b.store, Cache: builder.CacheOptions{Cache: cache.Local(b.store)},
		Run: runner.Options{Machine: host}, Listener: b.log,
	}

	if change != nil {
		change(&o)
	}

	return builder.Build(ctx, o)
}

func (b *bench) mustBuild(dockerfile string, change func(*builder.Options)) builder.Result {
	b.t.Helper()
	r, err := b.build(b.t.Context(), dockerfile, change)
	if err != nil {
		b.t.Fatalf("%v\n%s", err, b.log.output.String())
	}
	return r
}

// layers are the IDs of an image's layers, lowest first, and its config.
func (b *bench) layers(r builder.Result) (ids []string, config instructions.Image) {
	b.t.Helper()
	img, err := b.store.Image(r.ID)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := json.Unmarshal(img.Config, &config); err != nil {
		b.t.Fatal(err)
	}
	chain, err := b.store.Chain(img.TopLayer)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, l := range chain {
		ids = append(ids, l.ID)
	}
	return ids, config
}

func TestCachedBuildGivesTheSameImage(t *testing.T) {
	b := newBench(t)
	text := base + "RUN echo a > /a\nLABEL l=1\nWORKDIR /w\nWORKDIR /bin\nRUN echo b > /b\n"
	first := b.mustBuild(text, nil)
	b.log.events = nil
	if again := b.mustBuild(text, nil); again.ID != first.ID || again.Manifest.Digest != first.Manifest.Digest {
		t.Errorf("the cached build gave %v, the first %v", again, first)
	}
	for _, e := range b.log.events {
		if strings.HasPrefix(e, "started") {
			t.Errorf("not cached: %s", e)
		}
	}

	ids, config := b.layers(first)
	if len(ids) != 5 { // WORKDIR /bin makes none
		t.Errorf("%d layers, want 5", len(ids))
	}
	var empty []string
	for _, h := range config.History {
		if h.EmptyLayer {
			empty = append(empty, h.CreatedBy)
		}
	}

	if diff := cmp.Diff([]string{"LABEL l=1", "WORKDIR /bin"}, empty); diff != "" {
		t.Errorf("history without layers (-want +got):\n%s", diff)
	}
}

func TestChangeMissesFromThereOn(t *testing.T) {
	b := newBench(t)
	file := filepath.Join(b.dir, "f")
	text := base + "RUN echo a > /a\nCOPY f /f\nRUN cat /f > /g\n"
	ids := func(content string) []string {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		ids, _ := b.layers(b.mustBuild(text, nil))
		return ids
	}

	one, two, back := ids("one"), ids("two"), ids("one")
	for i := range one {
		if same := one[i] == two[i]; same != (i < 3) {
			t.Errorf("layer %d is the same: %v", i, same)
		}
	}

	if diff := cmp.Diff(one, back); diff != "" {
		t.Errorf("the first content again (-first +third):\n%s", diff)
	}
}

func TestNoCacheTakesTheNames(t *testing.T) {
	b := newBench(t)
	text := base + "RUN echo a > /a\n"
	first, _ := b.layers(b.mustBuild(text, nil))
	second, _ := b.layers(b.mustBuild(text, func(o *builder.Options) { o.Cache.Refresh = true }))
	third, _ := b.layers(b.mustBuild(text, nil))
	if first[0] == second[0] {
		t.Error("--no-cache took a layer from the cache")
	}
	if diff := cmp.Diff(second, third); diff != "" {
		t.Errorf("the next build did not take the new layers (-no-cache +next):\n%s", diff)
	}
}

func TestSquashMakesOneLayer(t *testing.T) {
	b := newBench(t)
	r := b.mustBuild(base+"RUN echo a > /a\nRUN cat /a > /b && rm /a\nCMD [\"x\"]\n", func(o *builder.Options) { o.Layers.OnePerStage = true })
	ids, config := b.layers(r)
	if len(ids) != 1 || len(config.History) != 5 {
		t.Fatalf("%d layers and %d entries of history, want 1 and 5", len(ids), len(config.History))
	}
	dir, err := b.store.Directory(ids[0])
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(dir + "/b"); err != nil || string(got) != "a\n" {
		t.Errorf("/b: %q, %v", got, err)
	}
}

func TestStagesSideBySide(t *testing.T) {
	b := newBench(t)
	var text strings.Builder
	text.WriteString(base)
	for i := range 4 {
		fmt.Fprintf(&text, "FROM base AS s%d\nRUN echo %d > /out%d\n", i, i, i)
	}
	text.WriteString("FROM base\n")
	for i := range 4 {
		fmt.Fprintf(&text, "COPY --from=s%d /out%d /\n", i, i)
	}
	text.WriteString("RUN cat /out*\n")
	b.mustBuild(text.String(), nil)
	if got := b.log.output.String(); got != "0\n1\n2\n3\n" {
		t.Errorf("output %q", got)
	}
}

func TestFailureNamesTheLineAndEndsTheOthers(t *testing.T) {
	b := newBench(t)
	began := time.Now()
	_, err := b.build(t.Context(), base+"FROM base AS slow\nRUN sleep 100; touch /f\nFROM base\nRUN sleep 1; exit 7\nCOPY --from=slow /f /\n", nil)
	var step *builder.StepError
	var exit *runner.ExitError
	if !errors.As(err, &step) || step.Line != 7 || !errors.As(err, &exit) || exit.Code != 7 {
		t.Errorf("%v", err)
	}
	if took := time.Since(began); took > 50*time.Second {
		t.Errorf("the other stage was waited for: %v", took)
	}
	if events := strings.Join(b.log.events, "\n"); !strings.Contains(events, "failed RUN sleep 1; exit 7") || !strings.Contains(events, "stopped RUN sleep 100") {
		t.Errorf("events:\n%s", events)
	}
	b.log.events = nil
	b.mustBuild(base, nil) // what was done before the failure is in the cache
	for _, e := range b.log.events {
		if strings.HasPrefix(e, "started") {
			t.Errorf("not cached: %s", e)
		}
	}
}

func TestTimesAreInTheKey(t *testing.T) {
	b := newBench(t)
	at := time.Unix(7, 0)
	text := base + "RUN echo a > /a\n"
	plain, _ := b.layers(b.mustBuild(text, nil))
	for _, times := range []builder.FileTimes{builder.SetTimes, builder.ClampTimes} {
		set, _ := b.layers(b.mustBuild(text, func(o *builder.Options) { o.Layers.Epoch, o.Layers.FileTimes = &at, times }))
		if set[2] == plain[2] {
			t.Errorf("file times %d: the layer is that of a build without", times)
		}
	}

	again, _ := b.layers(b.mustBuild(text, func(o *builder.Options) { o.Layers.Epoch = &at })) // of the image only
	if diff := cmp.Diff(plain, again); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A name must not stay for ever with a layer that lies on one that was made again.
func TestStaleNameIsTakenBack(t *testing.T) {
	b := newBench(t)
	text := base + "RUN head -c8 /dev/urandom > /a\nRUN cat /fail 2>/dev/null; echo b > /b\n"
	b.mustBuild(text, nil)
	// The step below is made again, and the one above is not reached.
	if _, err := b.build(t.Context(), strings.Replace(text, "RUN cat", "RUN exit 1; cat", 1), func(o *builder.Options) { o.Cache.Refresh = true }); err == nil {
		t.Fatal("built")
	}
	b.mustBuild(text, nil)
	b.log.events = nil
	b.mustBuild(text, nil)
	for _, e := range b.log.events {
		if strings.HasPrefix(e, "started") {
			t.Errorf("not cached: %s", e)
		}
	}
}

// A tool that removes the hold of a build can remove the image on which the build stands, and even bring it back.
func TestLayerRemovedMeanwhile(t *testing.T) {
	b := newBench(t)
	b.mustBuild(base+"RUN echo a > /a\n", func(o *builder.Options) { o.Image.Names = []string{"localhost/base:latest"} })
	img, err := b.library().Image("localhost/base:latest")
	if err != nil {
		t.Fatal(err)
	}
	removed := make(chan error, 1)
	go func() {
		held, err := waitForHold(b.library())
		if err == nil {
			err = b.library().DeleteLayer(held)
		}
		if err == nil {
			_, err = b.library().DeleteImage(img.ID, true)
		}
		removed <- err
	}()

	_, err = b.build(t.Context(), "FROM base\nRUN sleep 3; ls / | wc -l > /n; true\n", func(o *builder.Options) {
		o.Inputs.Pull = func(context.Context, string, string) (string, error) { return img.ID, nil }
	})
	if e := <-removed; e != nil {
		t.Fatal(e)
	}
	if err == nil || !strings.Contains(err.Error(), "was removed") {
		t.Errorf("%v, want that a layer was removed", err)
	}
}

// waitForHold returns the ID of the layer by which a build holds what it stands on, once there is one.
func waitForHold(st cs.Store) (string, error) {
	for {
		layers, err := st.Layers()
		if err != nil {
			return "", err
		}
		isHold := func(name string) bool { return strings.HasPrefix(name, "rbuild-hold-") }
		for _, l := range layers {
			if slices.ContainsFunc(l.Names, isHold) {
				return l.ID, nil
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestReproducedImageKeepsItsCache(t *testing.T) {
	b := newBench(t)
	at := time.Unix(0, 0)
	text := base + "RUN echo a > /a\n"
	with := func(noCache bool) func(*builder.Options) {
		return func(o *builder.Options) {
			o.Cache.Refresh, o.Layers.Epoch, o.Layers.FileTimes = noCache, &at, builder.SetTimes
		}
	}
	first := b.mustBuild(text, with(true))
	if second := b.mustBuild(text, with(true)); first.ID != second.ID {
		t.Fatalf("two builds gave %v and %v", first, second)
	}
	if err := b.store.PruneLayers(time.Now()); err != nil {
		t.Fatal(err)
	}
	layers, err := b.library().Layers()
	if err != nil {
		t.Fatal(err)
	}
	if len(layers) != 3 {
		t.Errorf("%d layers are left after pruning, want 3", len(layers))
	}
	b.log.events = nil
	b.mustBuild(text, with(false))
	for _, e := range b.log.events {
		if strings.HasPrefix(e, "started") {
			t.Errorf("not cached: %s", e)
		}
	}
}

func TestInterrupt(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(500*time.Millisecond, cancel)
	_, err := b.build(ctx, base+"RUN trap '' TERM INT; sleep 100 & sleep 100\n", nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
}

func TestEpoch(t *testing.T) {
	b := newBench(t)
	at := time.Unix(0, 0)
	text := base + "RUN date > /dev/null; echo a > /a; mkdir -p /x/y\nENV A=b\n"
	with := func(o *builder.Options) {
		o.Cache.Refresh, o.Layers.Epoch, o.Layers.FileTimes = true, &at, builder.SetTimes
	}
	first := b.mustBuild(text, with)
	time.Sleep(1100 * time.Millisecond) // whole seconds are what a tar keeps
	if second := b.mustBuild(text, with); first.ID != second.ID {
		t.Errorf("two builds gave %v and %v", first, second)
	}
}
