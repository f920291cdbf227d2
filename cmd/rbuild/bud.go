package main

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/kernel/binfmt"
	"codeberg.org/rbuild/rbuild/internal/runner"
	"codeberg.org/rbuild/rbuild/internal/transfer"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// budFlags are the flags of rbuild bud, as given. They are named and mean what buildah's do. Each group is registered,
// checked and applied in its own file.
type budFlags struct {
	input  inputFlags   // what is read: the Dockerfile and the context
	plan   planFlags    // what of the Dockerfile is built, with which arguments
	named  contextFlags // what else is read, by name
	allow  allowFlags   // what the Dockerfile may do
	pull   pullFlags    // where base images come from
	run    runFlags     // what RUN gets to see
	limits limitFlags   // what RUN may use
	box    sandboxFlags // what RUN may do
	time   timeFlags    // how long things may take
	cache  cacheFlags   // what of earlier builds is used, and left to later ones
	image  imageFlags   // what the image is like
	result resultFlags  // where the result goes
	output outputFlags  // what the user gets to see
	call   callFlags    // what is told of the Dockerfile instead
	peers  peerFlags    // what means nothing here

	conf containersConf // defaults of some, read before they are applied
}

// flagGroup is a part of budFlags.
type flagGroup interface {
	register(fs *pflag.FlagSet)
	// apply refuses what is wrong with the flags, and sets what they say of the build. It runs in the launcher too, before
	// anything is done: it opens nothing.
	apply(env lookup, o *builder.Options) error
}

// lookup is a variable of the environment, as os.LookupEnv has it.
type lookup = func(name string) (value string, ok bool)

func (f *budFlags) groups() []flagGroup {
	return []flagGroup{&f.input, &f.plan, &f.named, &f.allow, &f.pull, &f.run, &f.limits, &f.box, &f.time, &f.cache, &f.image, &f.result, &f.output, &f.call, &f.peers}
}

const budName = "bud"

func newBudCmd(a *app) *cobra.Command {
	var f budFlags
	f.limits.conf = &f.conf
	cmd := &cobra.Command{
		Use:     budName + " [flags] [CONTEXT]",
		Aliases: []string{"build", "build-using-dockerfile"},
		Short:   "Build an image from a Dockerfile",
		Long: "Build an image from a Dockerfile. CONTEXT is a directory (default: the working directory), a git repository, the URL\n" +
			"of a tar archive or of a Dockerfile, or - for either on standard input. Without --file the Dockerfile is\n" +
			"CONTEXT/Containerfile or CONTEXT/Dockerfile.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.input.context = "."
			if len(args) > 0 {
				f.input.context = args[0]
			}
			return a.bud(cmd.Context(), &f)
		},
	}

	for _, g := range f.groups() {
		g.register(cmd.Flags())
	}

	return cmd
}

// options turns the flags into those of a build, and refuses what is wrong with them before anything is done.
func (f *budFlags) options(env lookup) (o builder.Options, err error) {
	f.box.conf = &f.conf
	for _, g := range f.groups() {
		if err := g.apply(env, &o); err != nil {
			return o, err
		}
	}
	f.output.platform = f.plan.platform
	if f.run.stdin && f.input.fromStdin() {
		return o, errors.New("--stdin: standard input is the Dockerfile or the context already")
	}
	return o, nil
}

// bud checks the flags, and builds in the namespace, or without one where none can be made.
func (a *app) bud(ctx context.Context, f *budFlags) (err error) {
	if f.conf, err = readContainersConf(a.outerUID(os.Getuid())); err != nil {
		return err
	}

	o, err := f.options(os.LookupEnv)
	if err != nil {
		return err
	}
	if f.call.method != callBuild && f.input.local() {
		return a.call(ctx, nil, f, o)
	}

	err = f.time.within(ctx, func(ctx context.Context) error { return a.budInNamespace(ctx, f, o) })
	if err == nil || a.state != nil {
		return err
	}

	layout, err := a.withoutNamespace(err)
	if err != nil {
		return err
	}

	return a.explain(f.time.within(ctx, func(ctx context.Context) error {
		defer a.endAnyway(ctx)()
		return a.buildIn(ctx, layout, f, o)
	}))
}

func (a *app) budInNamespace(ctx context.Context, f *budFlags, o builder.Options) error {
	f.limits.cgroups.UID = a.outerUID(os.Getuid())
	if a.state == nil {
		defer f.limits.prepare()()
	}
	return a.withStoreIn(ctx, buildNamespace(), func(ctx context.Context, st *containers.Store) error {
		release, err := st.Use(ctx)
		if err != nil {
			return err
		}
		defer release()
		return a.buildInStore(ctx, storeImages{st, !a.state.Rootless()}, f, o)
	})
}

// buildInStore builds where there is a namespace. One with a single id is used only if something is to be run: what is kept
// in memory has its owners.
func (a *app) buildInStore(ctx context.Context, st storeImages, f *budFlags, o builder.Options) error {
	if a.state.Mode != userns.Single {
		a.warn()
		return a.buildIn(ctx, st, f, o)
	}
	place := &singleImages{imagePlace: st, app: a}
	err := a.buildIn(ctx, place, f, o)
	if refused := (*plan.RunRefused)(nil); errors.As(err, &refused) && !f.input.fromStdin() { // a trigger of the base runs something
		place.imagePlace, place.runs = st, true
		err = a.buildIn(ctx, place, f, o)
	}
	return err
}

func (a *app) buildIn(ctx context.Context, place imagePlace, f *budFlags, o builder.Options) error {
	if f.call.method != callBuild {
		return a.call(ctx, place, f, o)
	}
	return a.build(ctx, place, f, o)
}

// buildNamespace is what builds ask of their namespace.
func buildNamespace() userns.Options {
	return userns.Options{PID: true, KeepGroups: true, AllowSingle: true}
}

// build reads the Dockerfile and the context, runs the plan and says what came out.
func (a *app) build(ctx context.Context, place imagePlace, f *budFlags, o builder.Options) (err error) {
	if err := f.result.checkFiles([2]string{"--logfile", f.output.log()}, [2]string{"--rusage-logfile", f.output.usage.file}); err != nil {
		return err
	}

	lines, finish, err := f.output.listener(a.stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, finish()) }()
	if lines, finish, err = f.output.usage.listener(lines, finish, f.output.quiet); err != nil {
		return err
	}

	show := &stepLog{to: lines}
	notice := func(text string) { warn(show, text) }
	if o.Outputs, err = f.result.prepare(place.OwnFile, notice); err != nil {
		return err
	}

	var cgroups *stepCgroups
	if a.state != nil { // else nothing is run
		f.limits.cgroups.Devices = !a.state.Rootless()
		if cgroups, err = f.limits.steps(ctx, notice); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, cgroups.close()) }()
		o.Run.Limits.NewCgroup = cgroups.new
	}

	o.Listener = show
	in, err := f.open(ctx, place, &o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.close()) }()

	o.Inputs.Context, o.Image.Platform = in.tree, f.plan.ofImage()
	if _, err = f.plan.make(in, &o, os.LookupEnv, f.planned()); err != nil {
		if o.Checks.Linter != nil { // what it finds may be why
			for _, finding := range o.Checks.Linter.Check(o.Checks.Options).Findings {
				warn(show, finding.Text())
			}
		}
		return in.locate(err)
	}
	if err := place.prepare(&o); err != nil {
		return in.locate(err)
	}

	if o.Caches != nil { // steps can be run
		if err := f.box.open(&o, a.state); err != nil {
			return err
		}
		if cgroups != nil {
			cgroups.give(o.Run)
		}
	}

	if o.Layers.Epoch == nil {
		o.Layers.Epoch = o.Plan.Epoch
	}
	notices := f.output.notices(show)
	puller := &imagePuller{flags: &f.pull, base: a.sys(), allow: &f.allow, from: f.plan.from, place: place, report: notices}
	o.Inputs.Pull, o.Inputs.Origin = puller.pull, puller.origin
	contexts := &namedContexts{imagePlace: place, pull: puller, elsewhere: in.far}
	defer func() { err = errors.Join(err, contexts.close()) }()

	o.Inputs.Contexts = contexts.openers(&f.named)
	o.Explain = a.explainStep
	o.Run.Emulators = binfmt.New(os.Getenv("PATH"))
	defer func() { err = errors.Join(err, o.Run.Emulators.Close()) }()

	result, err := builder.Build(ctx, o)
	if err != nil {
		return runCode(in.locate(err))
	}

	if result.ID != "" {
		var to transfer.PushOptions
		if to.Options, err = f.pull.registry(a.sys(), notices); err != nil {
			return err
		}
		if result.Manifest, err = f.result.deliver(ctx, place, result, o.Image.Names, to); err != nil {
			return err
		}
	}

	if err := finish(); err != nil {
		return err
	}

	return f.result.announce(a.stdout, result, o.Image.Names, show.ended())
}

// planned is what the flags say beside those of planFlags.
func (f *budFlags) planned() plan.Options {
	return plan.Options{
		BuildArgs: f.image.epochArg(os.LookupEnv), Contexts: f.named.names(),
		Insecure: f.allow.insecure, NoRemote: f.allow.noRemote, Refuse: f.allow.refuse(f.plan.from),
	}
}

// runCode makes the exit code of a failed RUN the program's own, as buildah does.
func runCode(err error) error {
	var run *runner.ExitError
	if errors.As(err, &run) && run.Code != 0 {
		return &exitError{code: run.Code, err: err}
	}
	return err
}
