package engine

import (
	"context"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/kernel/binfmt"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// Result is the image that a build has made. It is the zero value in the launcher of a builder, and if no image was made.
type Result struct {
	ID       string        // of the image in the store
	Manifest digest.Digest // of the manifest, as the registry has it if the image was pushed
	Names    []string      // full references
}

// Build carries out a spec: it builds in a user namespace, or without one where none can be made. In the launcher it
// returns when the builder has ended, with the exit code in Engine.ExitCode.
//
// The error of a failed RUN is a *runner.ExitError, of an exceeded limit a *builder.TimeoutError (see ExitCode); errors
// about lines of the Dockerfile are a *SourceError.
func (e *Engine) Build(ctx context.Context, s *spec.Build) (r Result, err error) {
	path, _ := e.Env("PATH")
	o, err := options(s, path)
	if err != nil {
		return r, err
	}

	b := &build{engine: e, spec: s, options: o}
	if s.Call.Describes() && isLocal(s.Input) {
		return r, b.describe(ctx)
	}

	err = within(ctx, s.Time, b.inNamespace)
	if err == nil || e.State != nil {
		return b.result, err
	}

	images, err := e.withoutNamespace(err)
	if err != nil {
		return r, err
	}
	err = within(ctx, s.Time, func(ctx context.Context) error {
		defer e.Watch(ctx)()
		return b.in(ctx, images)
	})
	return b.result, e.Explain(err)
}

// build is the state of one build.
type build struct {
	engine  *Engine
	spec    *spec.Build
	options builder.Options // by the spec alone; run completes a copy

	images  buildImages
	log     progress.Listener
	steps   *stepLog
	notices io.Writer // lines about pulls and pushes; nil: none are wanted
	result  Result
}

// inNamespace builds in the store, in the builder. In the launcher it starts the builder.
func (b *build) inNamespace(ctx context.Context) error {
	b.spec.Limits.Cgroups.UID = b.engine.OuterUID()
	if b.engine.State == nil {
		defer prepareCgroups(b.spec.Limits.Cgroups)()
	}

	return b.engine.withStoreIn(ctx, BuildNamespace(), func(ctx context.Context, st *containers.Store) error {
		release, err := st.Use(ctx)
		if err != nil {
			return err
		}
		defer release()
		return b.inStore(ctx, storeImages{st, b.engine.trusted()})
	})
}

// inStore builds where there is a namespace. A namespace with a single ID is used only if a command is run: files in memory
// have their owners.
func (b *build) inStore(ctx context.Context, st storeImages) error {
	if b.engine.State.Mode != userns.Single {
		b.engine.WarnNamespace()
		return b.in(ctx, st)
	}

	images := &singleImages{buildImages: st, engine: b.engine}
	err := b.in(ctx, images)
	refused := (*plan.RunRefused)(nil)
	if !errors.As(err, &refused) || b.spec.Input.FromStdin() {
		return err
	}

	// A trigger of the base runs a command.
	images.buildImages = st
	images.runs = true
	return b.in(ctx, images)
}

// in builds with images, or describes the Dockerfile.
func (b *build) in(ctx context.Context, images buildImages) error {
	b.images = images
	if b.spec.Call.Describes() {
		return b.describe(ctx)
	}
	return b.run(ctx)
}

// run reads the Dockerfile and the context, runs the plan and delivers the result.
func (b *build) run(ctx context.Context) (err error) {
	if err := checkFiles(b.spec); err != nil {
		return err
	}
	report, err := b.engine.openReport(b.spec.Output)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, report.finish()) }()

	b.listen(report)
	o := b.options
	o.Listener = b.log
	if o.Outputs, err = b.prepareExports(); err != nil {
		return err
	}

	cgroups, err := b.openCgroups(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cgroups.close()) }()

	in, err := b.openSources(ctx, &o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.close()) }()

	if err := b.planAll(in, &o); err != nil {
		return in.locate(err)
	}
	if err := b.images.use(&o); err != nil {
		return in.locate(err)
	}
	if cgroups != nil && o.Caches != nil {
		if err := cgroups.confine(b.spec, &o.Run, b.engine.State); err != nil {
			return err
		}
	}

	puller := &puller{build: b}
	contexts := &namedContexts{build: b, puller: puller, remote: in.remote}
	defer func() { err = errors.Join(err, contexts.close()) }()
	o.Inputs.Pull = puller.pull
	o.Inputs.Origin = puller.origin
	o.Inputs.Contexts = contexts.openers()
	o.Explain = b.engine.explainStep

	path, _ := b.engine.Env("PATH")
	o.Run.Emulators = binfmt.New(path)
	defer func() { err = errors.Join(err, o.Run.Emulators.Close()) }()

	result, err := builder.Build(ctx, o)
	if err != nil {
		return in.locate(err)
	}
	return b.finish(ctx, result, report)
}

// listen directs the events of the build to the report, and shows the warnings of the spec.
func (b *build) listen(to report) {
	b.steps = &stepLog{to: to.to}
	b.log = b.steps
	if !b.spec.Pull.Quiet {
		b.notices = notices{b.log}
	}
	for _, text := range b.spec.Result.Notices {
		warn(b.log, text)
	}
}

// planAll plans the Dockerfile. If the plan has an error, planAll also shows the findings of the linter, which may be the
// reason.
func (b *build) planAll(in *input, o *builder.Options) error {
	p, err := b.makePlan(in)
	if err != nil {
		p.warnFindings(b.log)
		return err
	}

	o.Plan = p.plan
	o.Checks = builder.Checks{Linter: p.linter, Options: p.lint}
	if o.Layers.Epoch == nil {
		o.Layers.Epoch = p.plan.Epoch
	}
	return nil
}

// finish delivers the image and closes the report before the ID is printed.
func (b *build) finish(ctx context.Context, r builder.Result, report report) (err error) {
	if r.ID != "" {
		if r.Manifest, err = b.deliver(ctx, r); err != nil {
			return err
		}
	}
	if err := report.finish(); err != nil {
		return err
	}

	b.result = Result{ID: r.ID, Manifest: r.Manifest.Digest, Names: b.options.Image.Names}
	return b.announce(r)
}

// openSources opens the files that RUN uses, and the Dockerfile and the context.
func (b *build) openSources(ctx context.Context, o *builder.Options) (*input, error) {
	if err := b.engine.openRun(b.spec.Run, &o.Run); err != nil {
		return nil, err
	}
	o.Inputs.Remote = b.engine.stepAccess(o.Run)

	in, err := b.openInput(ctx, o)
	if err != nil {
		return nil, err
	}
	o.Inputs.Context = in.tree
	return in, nil
}

// openCgroups opens the cgroups of RUN. There are none without a namespace, where nothing is run.
func (b *build) openCgroups(ctx context.Context) (*stepCgroups, error) {
	if b.engine.State == nil {
		return nil, nil //nolint:nilnil // documented
	}
	s := b.spec.Limits
	s.Cgroups.Devices = b.engine.trusted()
	return newStepCgroups(ctx, s, func(text string) { warn(b.log, text) })
}

// warnFindings shows the findings of the linter.
func (p planned) warnFindings(to progress.Listener) {
	if p.linter == nil {
		return
	}
	for _, finding := range p.linter.Check(p.lint).Findings {
		warn(to, finding.Text())
	}
}
