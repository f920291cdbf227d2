package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/pkg/build"
	"codeberg.org/rbuild/rbuild/pkg/store"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// budFlags are the flags of rbuild bud, as given. They are named and mean what buildah's do. Each group is registered,
// checked and applied in its own file.
type budFlags struct {
	input  inputFlags  // what is read: the Dockerfile and the context
	plan   planFlags   // what of the Dockerfile is built, with which arguments
	pull   pullFlags   // where base images come from
	run    runFlags    // what RUN gets to see
	cache  cacheFlags  // what of earlier builds is used, and left to later ones
	image  imageFlags  // what the image is like
	output outputFlags // what the user gets to see
}

// flagGroup is a part of budFlags.
type flagGroup interface {
	register(fs *pflag.FlagSet)
	// apply refuses what is wrong with the flags, and sets what they say of the build. It runs in the launcher too, before
	// anything is done: it opens nothing.
	apply(env lookup, o *build.Options) error
}

// lookup is a variable of the environment, as os.LookupEnv has it.
type lookup = func(name string) (value string, ok bool)

func (f *budFlags) groups() []flagGroup {
	return []flagGroup{&f.input, &f.plan, &f.pull, &f.run, &f.cache, &f.image, &f.output}
}

func newBudCmd(a *app) *cobra.Command {
	var f budFlags
	cmd := &cobra.Command{
		Use:     "bud [flags] [CONTEXT]",
		Aliases: []string{"build", "build-using-dockerfile"},
		Short:   "Build an image from a Dockerfile",
		Long: "Build an image from a Dockerfile. CONTEXT is a directory (default: the working directory), or - for a tar archive\n" +
			"or a Dockerfile on standard input. Without --file the Dockerfile is CONTEXT/Containerfile or CONTEXT/Dockerfile.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.input.context = "."
			if len(args) > 0 {
				f.input.context = args[0]
			}
			return a.bud(cmd, &f)
		},
	}
	for _, g := range f.groups() {
		g.register(cmd.Flags())
	}
	cmd.SetFlagErrorFunc(refuseFlag)
	return cmd
}

// unsupported are flags of buildah, podman and docker that a user may bring along and that rbuild does not have yet:
// they are refused by name.
var unsupported = strings.Fields(`all-platforms allow arch attest blob-cache build-context builder cache-from cache-to call cap-add cap-drop
	cdi-config-dir cgroup-parent cgroupns check compress compression-format compression-level cpp-flag
	cpu-period cpu-quota cpu-shares cpus cpuset-cpus cpuset-mems created-annotation cw decryption-key device
	disable-compression disable-content-trust force-compression force-rm from group-add hooks-dir identity-label
	inherit-annotations inherit-labels ipc jobs layer-label load log-rusage logsplit manifest memory memory-swap
	metadata-file mount omit-history os os-feature os-version output pid pids-limit policy provenance push retry
	retry-delay rm runtime runtime-flag rusage-logfile save-stages sbom security-opt shm-size sign-by
	signature-policy source-policy-file squash stage-labels timeout ulimit userns userns-gid-map
	userns-gid-map-group userns-uid-map userns-uid-map-user uts variant`)

// refuseFlag words the error for a flag that is not there.
func refuseFlag(cmd *cobra.Command, err error) error {
	text := err.Error()
	for _, name := range unsupported {
		if text == "unknown flag: --"+name {
			return fmt.Errorf("--%s is not supported by this version of rbuild; nothing was built", name)
		}
	}
	return fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())
}

// options turns the flags into those of a build, and refuses what is wrong with them before anything is done.
func (f *budFlags) options(env lookup) (o build.Options, err error) {
	for _, g := range f.groups() {
		if err := g.apply(env, &o); err != nil {
			return o, err
		}
	}
	if f.run.stdin && f.input.fromStdin() {
		return o, errors.New("--stdin: standard input is the Dockerfile or the context already")
	}
	return o, nil
}

// bud checks the flags, and builds in the namespace.
func (a *app) bud(cmd *cobra.Command, f *budFlags) error {
	o, err := f.options(os.LookupEnv)
	if err != nil {
		return err
	}
	ns := userns.Options{PID: true, KeepGroups: true}
	return a.withStoreIn(cmd, ns, func(ctx context.Context, st *store.Store) error {
		release, err := st.Use(ctx)
		if err != nil {
			return err
		}
		defer release()
		return a.build(ctx, st, f, o)
	})
}

// build reads the Dockerfile and the context, runs the plan and says what came out.
func (a *app) build(ctx context.Context, st *store.Store, f *budFlags, o build.Options) (err error) {
	show, finish, err := f.output.listener()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, finish()) }()
	o.Listener, o.Store, o.Trusted = show, st, !a.state.Rootless()
	in, err := f.input.open(ctx, st, os.Stdin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.close()) }()
	o.Context = in.tree
	if o.Plan, err = f.plan.make(in, o, os.LookupEnv); err != nil {
		return in.locate(err)
	}
	if o.Epoch == nil {
		o.Epoch = o.Plan.Epoch
	}
	if err := f.run.open(&o.Run, os.LookupEnv); err != nil {
		return err
	}
	o.Pull = f.pull.puller(a.sys(), st, f.output.notices(show))
	result, err := build.Build(ctx, o)
	if err != nil {
		return runCode(in.locate(err))
	}
	if err := finish(); err != nil {
		return err
	}
	return f.output.announce(os.Stdout, result)
}

// runCode makes the exit code of a failed RUN the program's own, as buildah does.
func runCode(err error) error {
	var run *build.ExitError
	if errors.As(err, &run) && run.Code != 0 {
		return &exitError{code: run.Code, err: err}
	}
	return err
}
