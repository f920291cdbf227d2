package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/engine"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// pullCommand is the state of rbuild pull.
type pullCommand struct {
	access   cli.AccessFlags
	retry    cli.RetryFlags
	platform cli.PlatformFlags
	peers    cli.CompatFlags
	policy   string
	all      bool
	quiet    bool
	unsigned bool
}

func newPullCmd(a *app) *cobra.Command {
	var f pullCommand
	cmd := &cobra.Command{
		Use:   "pull [flags] IMAGE [IMAGE...]",
		Short: "Copy images from a registry, an archive or a directory into the store",
		Long: "Copy images into the store and print their IDs. IMAGE is a name in a registry, or names another place:\n" +
			"docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], dir:DIR.\n" +
			"docker:cli and dir:latest are names of images. Write dir:./latest for the directory.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			when, o, err := f.options(a.RegistryOptions())
			if err != nil {
				return err
			}

			if !f.quiet {
				a.reportTo(&o)
			}
			for _, name := range args {
				if a.State == nil && !transfer.IsRegistry(name) { // the process in the namespace comes here, too
					f.access.WarnUnused(a.stderr, name)
				}
			}

			return a.WithStore(cmd.Context(), func(ctx context.Context, st *containers.Store) error {
				release, err := st.Use(ctx)
				if err != nil {
					return err
				}
				defer release()

				for _, name := range args {
					names := []string{name}
					if f.all {
						if names, err = transfer.Tags(ctx, name, o); err != nil {
							return fmt.Errorf("--all-tags: %w", err)
						}
					}
					for _, name := range names {
						id, _, err := transfer.Pull(ctx, st.Storage(), name, when, o)
						if err != nil {
							return err
						}
						if _, err := fmt.Fprintln(cmd.OutOrStdout(), id); err != nil {
							return err
						}
					}
				}

				return nil
			})
		},
	}

	fs := cmd.Flags()
	f.access.Register(fs)
	f.retry.Register(fs)
	f.platform.Register(fs)
	f.peers.Register("pull", fs)
	fs.StringVar(&f.policy, "policy", string(transfer.PullAlways), "When to ask the registry: always, missing, newer or never")
	fs.BoolVarP(&f.all, "all-tags", "a", false, "Pull every tag of the repository")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "Print nothing but the IDs")
	fs.BoolVar(&f.unsigned, "remove-signatures", false, "Do not store the signatures of the image")

	return cmd
}

// options checks the flags and turns them into those of a pull.
func (f *pullCommand) options(base transfer.Options) (when transfer.Policy, o transfer.Options, err error) {
	if when, err = transfer.ParsePolicy(f.policy); err != nil {
		return when, o, fmt.Errorf("--policy: %w", err)
	}
	access, err := f.retry.Apply(f.access.Access())
	if err != nil {
		return when, o, err
	}
	if err := f.peers.Check(); err != nil {
		return when, o, err
	}
	if o, err = engine.Access(base, access); err != nil {
		return when, o, err
	}
	if o.Platform, err = f.platform.Given(hostPlatform()); err != nil {
		return when, o, err
	}

	o.KeepName = true
	o.NoSignatures = f.unsigned
	return when, o, nil
}
