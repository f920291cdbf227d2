package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/transfer"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// app is what the commands share: the global flags, and which role this process plays.
type app struct {
	root           string
	runroot        string
	driver         string
	driverOptions  []string
	registriesConf string
	logLevel       string
	config         configFlags

	sources transfer.Sources // $BUILD_REGISTRY_SOURCES

	stdout, stderr *progress.Stream // for all text

	state *userns.State // nil in the launcher
	exit  int           // the builder's exit code, in the launcher

	patient func() bool // ends endAnyway of the launcher; nil: it has none
}

func backgroundContext() context.Context { return context.Background() }

func newRootCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:           "rbuild",
		Short:         "Build OCI images from Dockerfiles, without a daemon and without root",
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return errors.Join(a.setUpLog(), a.leaveHome(), a.readSources(), a.config.check())
		},
		Version: currentVersion().line(),
	}

	cmd.SetFlagErrorFunc(refuseFlag)
	cmd.SetOut(a.stdout)
	cmd.SetErr(a.stderr)
	f := cmd.PersistentFlags()
	f.StringVar(&a.root, "root", "", "directory of the store's images and layers (default: storage.conf)")
	f.StringVar(&a.runroot, "runroot", "", "directory of the store's run-time state (default: storage.conf)")
	f.StringVar(&a.driver, "storage-driver", "", "storage driver; only overlay is supported")
	f.StringArrayVar(&a.driverOptions, "storage-opt", nil, "option of the storage driver; replaces those of storage.conf")
	f.StringVar(&a.registriesConf, "registries-conf", "", "use this file instead of registries.conf")
	a.config.register(f)
	f.StringVar(&a.logLevel, "log-level", "warn", "trace, debug, info, warn, error or fatal")
	cmd.AddCommand(
		newBudCmd(a),
		newPullCmd(a), newPushCmd(a),
		newImagesCmd(a), newRmiCmd(a), newTagCmd(a), newInspectCmd(a), newHistoryCmd(a),
		newLoginCmd(a), newLogoutCmd(a),
		newInfoCmd(a), newDoctorCmd(a), newVersionCmd(a), newPruneCmd(a), newUnshareCmd(a),
	)

	return cmd
}

// setUpLog makes --log-level hold for the libraries too.
func (a *app) setUpLog() error {
	level, err := logrus.ParseLevel(a.logLevel)
	if err != nil {
		return fmt.Errorf("--log-level %q: choose trace, debug, info, warn, error or fatal", a.logLevel)
	}
	logrus.SetLevel(level)
	return nil
}

// readSources reads which registries may be used.
func (a *app) readSources() (err error) {
	const name = "BUILD_REGISTRY_SOURCES"
	if a.sources, err = transfer.ParseSources(os.Getenv(name)); err != nil {
		return fmt.Errorf("%s in the environment: %w", name, err)
	}
	return nil
}

// inNamespace runs fn as root of a user namespace. In the launcher it starts the builder, the same command line over
// again, and waits for it; fn runs there. What fn needs from the command line must have been checked before, so that
// bad input is reported without any namespace.
func (a *app) inNamespace(ctx context.Context, o userns.Options, fn func(ctx context.Context) error) error {
	if a.state == nil {
		return a.enter(ctx, o)
	}
	return fn(ctx)
}

// enter starts the builder and waits for it. Signals are passed on, and the builder decides what they mean.
func (a *app) enter(ctx context.Context, o userns.Options) (err error) {
	if a.patient != nil {
		a.patient()
	}
	a.exit, err = userns.Enter(context.WithoutCancel(ctx), o)
	return err
}

// warn tells what is lesser about the namespace.
func (a *app) warn() {
	for _, w := range a.state.Warnings {
		logrus.Warn(w)
	}
}

// leaveHome lets the builder do without a home directory that it may not enter: where root of a container has mapped ids
// for it that are nobody's, root's own is closed to it, and what is looked up there would fail.
func (a *app) leaveHome() error {
	home := os.Getenv("HOME")
	if a.state == nil || a.state.Mode != userns.Direct || home == "" {
		return nil
	}
	if _, err := os.ReadDir(home); !errors.Is(err, fs.ErrPermission) {
		return nil
	}
	logrus.Warnf("%s is closed to the builder, which runs with the ids from %d on: no settings and credentials are read there", home, a.state.UIDMap[0].Outside)
	return os.Setenv("HOME", "/nonexistent") // as Debian has it for users without
}

// withStore runs fn in the namespace with the open store.
func (a *app) withStore(ctx context.Context, fn func(ctx context.Context, st *containers.Store) error) error {
	return a.withStoreIn(ctx, userns.Options{PID: true, AllowSingle: true}, func(ctx context.Context, st *containers.Store) error {
		a.warn()
		return fn(ctx, st)
	})
}

func (a *app) withStoreIn(ctx context.Context, o userns.Options, fn func(ctx context.Context, st *containers.Store) error) error {
	o.Env = append(o.Env, ownerEnv()...)
	if a.state == nil {
		watched, ended := context.WithCancel(context.WithoutCancel(ctx))
		defer ended()
		go watchStopped(watched, a.storeOptions())
	}

	return a.inNamespace(ctx, o, func(ctx context.Context) (err error) {
		defer a.endAnyway(ctx)()
		defer func() { err = a.explain(err) }()

		options := a.storeOptions()
		options.Owner = takeOwner()
		st, err := containers.Open(options)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, st.Close()) }()
		if err := transfer.Tidy(st, a.sys()); err != nil {
			return err
		}

		err = fn(ctx, st)
		st.Failed(err)
		return err
	})
}

// storeOptions is which store the global flags name.
func (a *app) storeOptions() containers.Options {
	return containers.Options{GraphRoot: a.root, RunRoot: a.runroot, Driver: a.driver, DriverOptions: a.driverOptions}
}

// sys is how registries are reached, as far as the global flags and the environment say.
func (a *app) sys() transfer.Options {
	if err := ensureRuntimeDir(); err != nil {
		logrus.Warn(err)
	}
	o := transfer.Options{
		Names: images.Names{RegistriesConf: a.registriesConf},
		Access: transfer.Access{
			AuthFile:  os.Getenv("REGISTRY_AUTH_FILE"),
			Sources:   a.sources,
			UserAgent: "rbuild/" + currentVersion().Version,
		},
	}

	if a.state != nil && a.state.Mode == userns.Single {
		o.Owner = a.singleOwner
	}
	if o.RegistriesConf == "" {
		o.RegistriesConf = os.Getenv("CONTAINERS_REGISTRIES_CONF")
	}
	return a.config.apply(o)
}
