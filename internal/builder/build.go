// Package build runs a plan: it is the assembly of all the others, and where a Dockerfile's way to an image can be
// read from top to bottom.
//
//	Build            every stage that the target needs, each once, side by side
//	stage.run        the step loop: an instruction edits the config, or makes files
//	stage.files      key -> cache look-up -> hit, or: fill a staging directory and commit it in the background
//	stage.runStep    what fills it for RUN;  stage.copyStep for COPY and ADD;  stage.workdirStep for WORKDIR
//	builder.record   config, history and layers -> image;  builder.squash makes them one layer before
//	builder.output   the files of the target -> whoever takes them
//
// Build knows no flags and no terminals. It must be called as root of a user namespace of its own, with a mount
// namespace of its own (pkg/userns).
package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/copier"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/lint"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/kernel/binfmt"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/runner"
	"codeberg.org/rbuild/rbuild/internal/source"
	"codeberg.org/rbuild/rbuild/pkg/commit"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
	"codeberg.org/rbuild/rbuild/pkg/layer"
)

// Options is one build.
type Options struct {
	Plan    *plan.Plan
	Context *copier.Tree // the build context; nil: none was given, COPY from it is an error

	Store *containers.Store
	// Plain, if set, is where images are kept instead, and says that there is no namespace: what the steps make is kept in
	// memory, and a RUN is refused.
	Plain  Images
	Remote source.Access // how git repositories and URLs are reached
	// Pull makes an image present in the store and returns its ID. platform is as plan.Source has it. It must be safe for
	// concurrent use.
	Pull func(ctx context.Context, name, platform string) (id string, err error)
	// Origin returns the full name of an image that Pull returned for a name, "" if it has none, and the digest of its
	// manifest at the registry. If Origin is nil, images get no annotations about their base.
	Origin func(name, id string) Base
	// Contexts open the named contexts of the plan, by their names. Each is asked once for a platform, by several
	// goroutines.
	Contexts map[string]OpenContext
	// Emulators make programs of other architectures executable; nil: they are not.
	Emulators *binfmt.Emulators
	Listener  progress.Listener
	// Explain adds to the error of a step what the host lacks, if that is why it failed. It is called while what the step
	// has made is still there. Nil: nothing is added.
	Explain func(error) error

	Lint        *lint.Linter // tells mistakes of the Dockerfile as warnings; nil: nobody looks for them
	LintOptions lint.Options // but for Plan and Bases, which the build knows

	Image     ImageOptions
	NoImage   bool             // record no image: only Outputs is wanted
	Outputs   []Output         // what takes the target's files
	Run       runner.Options   // but for Machine, Emulators, Trusted and Limits.Silence, which the build knows
	NoCache   bool             // run every step, and let its result replace what the cache has
	Uncached  []string         // the same for the stages of these names, in any case
	CacheTTL  time.Duration    // run again what was run longer ago; 0: nothing is too old
	OneLayer  bool             // one layer for all the steps of a stage, and no cache (--layers=false)
	Flatten   bool             // one layer for all of the image, the base included (--squash)
	Jobs      int              // how many steps may run at the same time; 0: as many as there are processors
	Epoch     *time.Time       // the time of the image and its history; nil: when each step was run
	FileTimes FileTimes        // what Epoch means for the files of the new layers
	Platform  ocispec.Platform // this machine's

	StepTimeout    time.Duration // how long a step, or the pull of an image, may take; 0: as long as it wants
	SilenceTimeout time.Duration // how long a RUN may print nothing; 0: as long as it wants

	// Owner says why no file can belong to that user and group; nil: files can belong to anybody.
	Owner   func(uid, gid uint32) error
	Trusted bool // real root: overlayfs marks in trusted.*
}

// FileTimes says what becomes of the modification times of files.
type FileTimes int

// The zero value is KeepTimes.
const (
	KeepTimes  FileTimes = iota
	SetTimes             // all are Epoch (--timestamp)
	ClampTimes           // none is later than Epoch (--rewrite-timestamp)
)

// ImageOptions says what becomes of the target.
type ImageOptions struct {
	Names       []string         // full references
	Platform    ocispec.Platform // what the image is said to be for; the zero value: what the last stage is for
	Format      commit.Format
	AnyFormat   bool // nobody asked for Format: an image that the build does not change keeps its own
	Annotations map[string]string
	Labels      []Label // over those of the Dockerfile, in this order
	NoLabels    bool    // no stage inherits the labels of its base
	NoHistory   bool    // the config has no history
	CreatedNote bool    // annotate the manifest with the time of the image

	NoAnnotations    bool     // the manifest has none of the annotations of the base's
	UnsetAnnotations []string // of the base and the default ones, which the manifest shall not have
	OSVersion        string   // os.version of the config; empty: the base's
	OSFeatures       []string // for os.features of the config, beside the base's; "NAME-" removes NAME

	SaveStages     bool    // record an image without a name of each stage before the target
	DescribeStages bool    // label these, and the target, with the stage's name and base
	StageLabels    []Label // of these alone

	// UnsetLabels and UnsetEnv are what the image shall not have, wherever it comes from. Steps still see it.
	UnsetLabels, UnsetEnv []string
}

// Base is the image that a stage is based on, for the annotations of the image that the stage becomes.
type Base struct {
	Name   string        // full name; "": unknown
	Digest digest.Digest // of the manifest; "": there is no base
}

// Label is a label of the command line.
type Label struct{ Key, Value string }

// Result is the image that was made; the zero value: none was asked for.
type Result struct {
	ID       string             // of the image's record
	Config   digest.Digest      // of the config document
	Manifest ocispec.Descriptor // of the manifest as stored
}

// Build runs the plan and records the image. Whatever the outcome, nothing but finished layers and images stays in
// the store: finished layers of a failed build are what the next one finds in the cache.
func Build(ctx context.Context, o Options) (Result, error) {
	interrupt := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	b := &builder{
		Options: o, cancel: cancel, interrupt: interrupt,
		slots:  make(chan struct{}, cmp.Or(o.Jobs, max(2, runtime.NumCPU()))),
		stages: map[*plan.Stage]*future{}, images: map[plan.Source]*future{},
		contexts: map[plan.Source]func() (NamedContext, error){},
		copies:   map[digest.Digest]func() (string, error){},
		warned:   map[string]struct{}{},
		holds:    map[string]*hold{},
	}
	defer b.close()
	if err := b.open(); err != nil {
		return Result{}, err
	}

	for _, w := range o.Plan.Warnings {
		b.warn(w)
	}
	if err := b.setEpoch(ctx); err != nil {
		return Result{}, err
	}
	if err := b.check(ctx); err != nil {
		return Result{}, err
	}

	for _, s := range o.Plan.Stages { // those that are known to be needed start at once
		b.stage(ctx, s)
	}
	var target *snapshot // the last one's
	for _, s := range o.Plan.Stages {
		var err error
		if target, err = b.stage(ctx, s).wait(ctx); err != nil {
			return Result{}, err
		}
	}

	if err := b.saveStages(ctx); err != nil {
		return Result{}, err
	}

	result, err := b.record(ctx, target)
	if err != nil {
		return result, err
	}

	return result, b.output(ctx, target)
}

// builder is the state of one Build.
type builder struct {
	Options
	cancel     context.CancelCauseFunc
	interrupt  context.Context //nolint:containedctx // ends commits when the build is interrupted, not when a step has failed
	scratch    *scratch
	runner     *runner.Runner
	background sync.WaitGroup
	slots      chan struct{} // one for each step that makes files at the same time

	mu       sync.Mutex
	stages   map[*plan.Stage]*future
	images   map[plan.Source]*future // and named contexts that are the base of a stage
	contexts map[plan.Source]func() (NamedContext, error)
	copies   map[digest.Digest]func() (string, error) // of parts of the context, for mounts
	roots    []*root                                  // to be closed
	plain    plain
	warned   map[string]struct{} // what warnOnce has shown
	holds    map[string]*hold    // by the ID of the layer
}

// future is a snapshot that is being made.
type future struct {
	done chan struct{}
	snap *snapshot
	err  error
	took time.Duration // how long it was made, until base has charged a step with it
}

func (f *future) wait(ctx context.Context) (*snapshot, error) {
	select {
	case <-f.done:
		return f.snap, f.err
	case <-ctx.Done():
	}

	cause := context.Cause(ctx)
	if errors.As(cause, new(*TimeoutError)) { // then it is about to end too, and names what took so long
		if <-f.done; f.err != nil {
			return nil, f.err
		}
	}

	return nil, cause
}

// once starts fn in the background unless key is in the table already.
func once[K comparable](b *builder, table map[K]*future, key K, fn func() (*snapshot, error)) *future {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f, ok := table[key]; ok {
		return f
	}

	f := &future{done: make(chan struct{})}
	table[key] = f
	b.background.Go(func() {
		defer close(f.done)
		began := time.Now()
		f.snap, f.err = fn()
		f.took = time.Since(began)
	})

	return f
}

// stage runs a stage once, however many need it.
func (b *builder) stage(ctx context.Context, s *plan.Stage) *future {
	return once(b, b.stages, s, func() (*snapshot, error) {
		snap, err := b.runStage(ctx, s)
		if err != nil {
			b.cancel(err) // the first failure ends the other stages
		}
		return snap, err
	})
}

// image pulls an image once and opens its layers.
func (b *builder) image(ctx context.Context, from plan.Source) *future {
	return once(b, b.images, from, func() (*snapshot, error) {
		if from.Context != "" {
			return b.openContext(ctx, from)
		}
		ctx, _, done := b.limitStep(ctx)
		defer done()
		id, err := b.Pull(ctx, from.Image, from.Platform)
		if err != nil {
			return nil, b.perhapsStage(from.Image, Because(ctx, err))
		}
		return b.openBase(ctx, from.Image, id)
	})
}

// openBase opens an image that was pulled by a name; "": it has none.
func (b *builder) openBase(ctx context.Context, name, id string) (*snapshot, error) {
	snap, err := b.openImage(ctx, id)
	if err == nil && b.Origin != nil {
		snap.base = b.Origin(name, id)
	}
	return snap, err
}

// source is the snapshot that a FROM or a --from names.
func (b *builder) source(ctx context.Context, s plan.Source) (*snapshot, error) {
	switch {
	case s.Stage != nil:
		return b.stage(ctx, s.Stage).wait(ctx)
	case s.Image != "" || s.Context != "":
		return b.image(ctx, s).wait(ctx)
	}
	return b.emptySnapshot()
}

// base is source for FROM. It says how long the image was pulled; several stages that begin with an image share one pull,
// which is the work of the first.
func (b *builder) base(ctx context.Context, from plan.Source) (snap *snapshot, pulled time.Duration, err error) {
	snap, err = b.source(ctx, from)
	if err != nil || from.Stage != nil || from.Image == "" && from.Context == "" {
		return snap, 0, err
	}
	f := b.image(ctx, from) // there since source has returned
	b.mu.Lock()
	defer b.mu.Unlock()
	pulled, f.took = f.took, 0
	return snap, pulled, nil
}

func (b *builder) open() error {
	if b.Plain != nil {
		return b.openPlain()
	}
	staging, err := b.Store.NewStaging()
	if err != nil {
		return err
	}
	b.scratch = &scratch{Upper: staging.Upper, Dir: staging.Dir, Discard: staging.Discard}
	b.runner = runner.New(b.runOptions(), staging.Dir)
	return os.Chmod(staging.Upper, 0o755) // as the root of an image from scratch
}

// runOptions returns the options of all RUN steps.
func (b *builder) runOptions() runner.Options {
	o := b.Run
	o.Machine, o.Emulators, o.Trusted = b.Platform, b.Emulators, b.Trusted
	o.Limits.Silence = runner.Silence{
		Limit: b.SilenceTimeout,
		Err:   &TimeoutError{"the step printed nothing for", b.SilenceTimeout, "--no-output-timeout"},
	}
	return o
}

// scratch is room for what a build needs while it runs.
type scratch struct {
	Upper   string // an empty directory; "": there is none
	Dir     string // for downloads
	Discard func() error
}

// close waits for what runs in the background and gives back what the build held.
func (b *builder) close() {
	b.cancel(context.Canceled)
	b.background.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()

	for _, r := range b.roots {
		r.close()
	}
	b.releaseHolds()
	if b.scratch != nil {
		if err := b.scratch.Discard(); err != nil {
			b.warn(fmt.Sprintf("%v", err))
		}
	}
}

func (b *builder) warn(text string) {
	b.Listener.Event(progress.Event{Kind: progress.Warning, Time: time.Now(), Text: text})
}

// warnOnce shows what is as true of one step as of the next.
func (b *builder) warnOnce(text string) {
	b.mu.Lock()
	_, shown := b.warned[text]
	b.warned[text] = struct{}{}
	b.mu.Unlock()
	if !shown {
		b.warn(text)
	}
}

// sparseSource is a large sparse file that a step copies. The copy has the same size.
type sparseSource struct {
	step *plan.Step
	size int64 // bytes
}

// warnSource shows a warning about a large sparse source of a step, while the source is digested.
func (s *stage) warnSource(step *plan.Step, source string, size, data int64) {
	s.sparse.Store(sparseSource{step, size}, nil)
	s.warnAt(step, layer.SparseText("source "+source, size, data))
}

// warnSparse shows a warning about a large sparse file of a step's layer, while the layer is digested. The copy of a source
// needs no second warning. With --layers=false the layer is of no step, and each of its large sparse files is named.
// It returns the text, empty if there was no warning.
func (s *stage) warnSparse(step *plan.Step, path string, size, data int64) string {
	if _, copied := s.sparse.Load(sparseSource{step, size}); copied {
		return ""
	}
	text := layer.SparseText("/"+path, size, data)
	s.warnAt(step, text)
	return text
}

// sparseOutput warns, once, of a large sparse file among all files of the image, which are written or made one layer.
func (b *builder) sparseOutput(path string, size, data int64) {
	b.warnOnce(layer.SparseText("/"+path, size, data))
}

// warnAt shows a warning about a step, with its lines.
func (b *builder) warnAt(step *plan.Step, text string) {
	file := b.Plan.File()
	b.warn(file.WarningText(instructions.Warning{Range: file.RangeOf(step.Place()), Msg: text}))
}

func (b *builder) notice(text string) {
	b.Listener.Event(progress.Event{Kind: progress.Notice, Time: time.Now(), Text: text})
}
