package main

import (
	"fmt"
	"os"
	"runtime"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"go.podman.io/storage/pkg/configfile"

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/engine"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// app is the state that the commands share.
type app struct {
	*engine.Engine

	flags    cli.GlobalFlags
	registry transfer.Options // by the global flags and the environment

	stdout, stderr *progress.Stream // for all text
}

func newApp() *app {
	a := &app{}
	a.openStreams()
	a.Engine = engine.New(engine.Process{
		Env:        os.LookupEnv,
		Environ:    os.Environ(),
		Stdin:      os.Stdin,
		Stdout:     stdoutFile(),
		Text:       a.stdout,
		Log:        a.stderr,
		RootRemedy: ", choose it with --root",
		Registry:   func() transfer.Options { return a.registry },
		Abandon:    func(err error) { os.Exit(a.report(err)) },
	})
	return a
}

func newRootCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "rbuild",
		Short:             "Build OCI images from Dockerfiles, without a daemon and without root",
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.configure() },
		Version:           currentVersion().line(),
	}

	cmd.SetFlagErrorFunc(cli.RefuseFlag)
	cmd.SetOut(a.stdout)
	cmd.SetErr(a.stderr)
	cli.SetHelp(cmd)
	a.flags.Register(cmd.PersistentFlags())
	cmd.AddCommand(
		newBuildCmd(a),
		newPullCmd(a), newPushCmd(a),
		newImagesCmd(a), newRmiCmd(a), newTagCmd(a), newInspectCmd(a), newHistoryCmd(a),
		newLoginCmd(a), newLogoutCmd(a),
		newInfoCmd(a), newDoctorCmd(a), newVersionCmd(a), newPruneCmd(a), newUnshareCmd(a),
	)
	return cmd
}

// configure applies the global flags, and refuses files and directories that cannot be read, before anything is done.
func (a *app) configure() (err error) {
	level, err := a.flags.LogLevel()
	if err != nil {
		return err
	}
	logrus.SetLevel(level) // of the libraries too
	if err := a.LeaveHome(); err != nil {
		return err
	}
	if err := a.flags.Check(); err != nil {
		return err
	}

	if dir := a.flags.Files.RegistriesConfDir; dir != "" {
		if _, err := os.ReadDir(dir); err != nil {
			return fmt.Errorf("--registries-conf-dir: %w", err)
		}
	}
	if err := transfer.CheckPolicyFile(a.flags.Files.SignaturePolicy); err != nil {
		return fmt.Errorf("--signature-policy: %w", err)
	}

	a.Store = containers.Options{
		GraphRoot:     a.flags.Root,
		RunRoot:       a.flags.RunRoot,
		Driver:        a.flags.Driver,
		DriverOptions: a.flags.DriverOptions,
	}
	a.registry, err = a.flags.Registry(os.LookupEnv)
	a.registry.UserAgent = "rbuild/" + currentVersion().Version
	return err
}

// host returns the facts about this machine and this process that the meaning of flags depends on.
func (a *app) host() (*cli.Host, error) {
	conf, err := readConfig(a.OuterUID())
	if err != nil {
		return nil, err
	}

	_, err = os.Stat("/sys/fs/selinux/enforce")
	return &cli.Host{
		Env:            os.LookupEnv,
		Environ:        os.Environ(),
		Platform:       hostPlatform(),
		Config:         conf,
		Version:        currentVersion().Version,
		SELinux:        err == nil,
		StdoutTerminal: a.stdout.Terminal(),
		HardLimit:      sandbox.HardLimit,
	}, nil
}

// hostPlatform returns the platform of this machine.
func hostPlatform() ocispec.Platform {
	return platforms.Normalize(ocispec.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH})
}

// readConfig reads the files of containers.conf(5), in its order: the first file that exists of
// $XDG_CONFIG_HOME/containers, /etc/containers and /usr/share/containers, then the directories containers.conf.d, by names
// of files, then $CONTAINERS_CONF_OVERRIDE. $CONTAINERS_CONF replaces all but the last. uid is the ID of the user who runs
// rbuild, on which some directories depend.
//
// The library's reader of all keys (go.podman.io/common/pkg/config) links five more modules and was measured at 1 to 6 ms
// of every command's start. Here only the library's merge of files is used.
func readConfig(uid int) (c cli.Config, err error) {
	file := configfile.File{Name: "containers", Extension: "conf", EnvironmentName: "CONTAINERS_CONF", UserId: uid}
	if err := configfile.ParseTOML(&c, &file); err != nil {
		return c, fmt.Errorf("containers.conf: %w", err)
	}
	return c, nil
}
