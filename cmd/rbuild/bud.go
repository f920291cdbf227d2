package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"codeberg.org/rbuild/rbuild/pkg/build"
	"codeberg.org/rbuild/rbuild/pkg/store"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// budFlags are the flags of rbuild bud, as given. They are named and mean what buildah's do.
type budFlags struct {
	files       []string
	tags        []string
	buildArgs   []string
	target      string
	noCache     bool
	layers      bool
	pull        string
	network     string
	labels      []string
	annotations []string
	platform    string
	iidfile     string
	format      string
	timestamp   string
	epoch       string
	rewrite     bool
	progress    string
	quiet       bool
	addHosts    []string
	dns         []string
	volumes     []string
	secrets     []string
	ssh         []string
	access      accessFlags
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
			contextDir := "."
			if len(args) > 0 {
				contextDir = args[0]
			}
			return a.bud(cmd, f, contextDir)
		},
	}
	f.register(cmd)
	cmd.SetFlagErrorFunc(refuseFlag)
	return cmd
}

func (f *budFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringArrayVarP(&f.files, "file", "f", nil, "Dockerfile; - for standard input")
	fs.StringArrayVarP(&f.tags, "tag", "t", nil, "name[:tag] of the image; may be repeated")
	fs.StringArrayVar(&f.buildArgs, "build-arg", nil, "NAME=VALUE for an ARG; NAME alone takes the environment's value")
	fs.StringVar(&f.target, "target", "", "stage to build (default: the last)")
	fs.BoolVar(&f.noCache, "no-cache", false, "run every step, whatever earlier builds left")
	fs.BoolVar(&f.layers, "layers", true, "a layer for each instruction, kept for later builds; false: one layer for all")
	fs.StringVar(&f.pull, "pull", "missing", "when to pull base images: always, missing, never or newer")
	fs.Lookup("pull").NoOptDefVal = "always"
	fs.StringVar(&f.network, "network", "host", "network of RUN: host, none or private")
	fs.StringVar(&f.network, "net", "host", "same as --network")
	_ = fs.MarkHidden("net") // the flag was defined on the line before
	fs.StringArrayVar(&f.labels, "label", nil, "KEY=VALUE label of the image, over those of the Dockerfile")
	fs.StringArrayVar(&f.annotations, "annotation", nil, "KEY=VALUE annotation of the image's manifest")
	fs.StringVar(&f.platform, "platform", "", "OS/ARCH[/VARIANT] to build for; only the host's own")
	fs.StringVar(&f.iidfile, "iidfile", "", "write the image's ID to this file")
	fs.StringVar(&f.format, "format", "", "oci or docker (default: $BUILDAH_FORMAT, else oci)")
	fs.StringVar(&f.timestamp, "timestamp", "", "seconds since 1970: the time of the image, its history and every file of its new layers")
	fs.StringVar(&f.epoch, "source-date-epoch", "", "seconds since 1970: the time of the image and its history (default: $SOURCE_DATE_EPOCH)")
	fs.BoolVar(&f.rewrite, "rewrite-timestamp", false, "let no file of the new layers be later than --source-date-epoch")
	fs.StringVar(&f.progress, "progress", "auto", "auto, plain, tty, quiet or rawjson")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "print the image's ID only")
	fs.StringArrayVar(&f.addHosts, "add-host", nil, "NAME:ADDRESS for /etc/hosts in RUN")
	fs.StringArrayVar(&f.dns, "dns", nil, "address of a nameserver for RUN, instead of the host's")
	fs.StringArrayVarP(&f.volumes, "volume", "v", nil, "HOST-PATH:PATH[:ro] to bind into RUN")
	fs.StringArrayVar(&f.secrets, "secret", nil, "id=ID[,src=FILE|,env=VARIABLE] for RUN --mount=type=secret")
	fs.StringArrayVar(&f.ssh, "ssh", nil, "ID[=SOCKET|=KEY[,KEY]] for RUN --mount=type=ssh; ID alone is the agent at $SSH_AUTH_SOCK")
	f.access.register(fs)
}

// unsupported are flags of buildah, podman and docker that a user may bring along and that rbuild does not have yet:
// they are refused by name.
var unsupported = strings.Fields(`all-platforms allow arch attest blob-cache build-arg-file build-context builder cache-from
	cache-to cache-ttl call cap-add cap-drop cdi-config-dir cgroup-parent cgroupns check compat-volumes compress
	compression-format compression-level cpp-flag cpu-period cpu-quota cpu-shares cpus cpuset-cpus cpuset-mems
	created-annotation cw decryption-key device disable-compression disable-content-trust dns-option dns-search env
	force-compression force-rm from group-add hooks-dir http-proxy identity-label ignorefile inherit-annotations
	inherit-labels ipc isolation jobs layer-label load log-rusage logfile logsplit manifest memory memory-swap
	metadata-file mount no-cache-filter no-hostname no-hosts omit-history os os-feature os-version output pid pids-limit
	policy provenance pull-always pull-never push retry retry-delay rm runtime runtime-flag
	rusage-logfile save-stages sbom security-opt shm-size sign-by signature-policy skip-unused-stages
	source-policy-file squash stage-labels stdin timeout ulimit unsetannotation unsetenv unsetlabel userns
	userns-gid-map userns-gid-map-group userns-uid-map userns-uid-map-user uts variant`)

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

// bud checks the flags, and builds in the namespace.
func (a *app) bud(cmd *cobra.Command, f budFlags, contextDir string) error {
	if cmd.Flags().Changed("net") && cmd.Flags().Changed("network") {
		return errors.New("--net is the same as --network: give one of them")
	}
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
		return a.build(ctx, st, f, o, contextDir)
	})
}

// build reads the Dockerfile and the context, runs the plan and says what came out.
func (a *app) build(ctx context.Context, st *store.Store, f budFlags, o build.Options, contextDir string) (err error) {
	show, finish := listener(f.progress, f.quiet)
	defer func() { err = errors.Join(err, finish()) }()
	o.Listener, o.Store, o.Trusted = show, st, !a.state.Rootless()
	in, err := openInput(ctx, st, f.files, contextDir, os.Stdin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.close()) }()
	o.File, o.Context = in.name, in.tree
	if o.Plan, err = f.plan(in, o, show); err != nil {
		return in.locate(err)
	}
	if o.Epoch == nil {
		o.Epoch = o.Plan.Epoch
	}
	if o.Run.Volumes, err = parseVolumes(f.volumes); err != nil {
		return err
	}
	if o.Run.Secrets, err = readSecrets(f.secrets, os.LookupEnv); err != nil {
		return err
	}
	if o.Run.SSH, err = openAgents(f.ssh, os.LookupEnv); err != nil {
		return err
	}
	o.Pull = a.puller(st, f, show)
	result, err := build.Build(ctx, o)
	if err != nil {
		return runCode(in.locate(err))
	}
	if err := finish(); err != nil {
		return err
	}
	return f.announce(os.Stdout, result)
}

// announce prints the ID, and writes it where the user wants it.
func (f *budFlags) announce(w io.Writer, r build.Result) error {
	if f.iidfile != "" {
		if err := os.WriteFile(f.iidfile, []byte("sha256:"+r.ID), 0o644); err != nil { //nolint:gosec // as public as the image
			return fmt.Errorf("writing the image's ID: %w", err)
		}
	}
	_, err := fmt.Fprintln(w, r.ID)
	return err
}

// runCode makes the exit code of a failed RUN the program's own, as buildah does.
func runCode(err error) error {
	var run *build.ExitError
	if errors.As(err, &run) && run.Code != 0 {
		return &exitError{code: run.Code, err: err}
	}
	return err
}
