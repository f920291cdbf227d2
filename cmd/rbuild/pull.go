package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// pullCommand is the state of rbuild pull.
type pullCommand struct {
	access   accessFlags
	retry    retryFlags
	platform planFlags // those of the platform only
	peers    peerFlags
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
			when, o, err := f.options(a.sys())
			if err != nil {
				return err
			}

			if !f.quiet {
				a.reportTo(&o)
			}
			for _, name := range args {
				if a.state == nil && !transfer.IsRegistry(name) { // the process in the namespace comes here, too
					f.access.tellUnused(a.stderr, name)
				}
			}

			return a.withImages(cmd.Context(), func(ctx context.Context, stores imageStores) error {
				return f.pull(ctx, stores[0], args, when, o, cmd.OutOrStdout())
			})
		},
	}

	fs := cmd.Flags()
	f.access.register(fs)
	f.retry.register(fs)
	f.platform.registerPlatform(fs)
	f.peers.registerOf("pull", fs)
	fs.StringVar(&f.policy, "policy", string(transfer.PullAlways), "when to ask the registry: always, missing, newer or never")
	fs.BoolVarP(&f.all, "all-tags", "a", false, "pull every tag of the repository")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "print nothing but the IDs")
	fs.BoolVar(&f.unsigned, "remove-signatures", false, "do not store the signatures of the image")

	return cmd
}

// pull pulls images and prints their IDs.
func (f *pullCommand) pull(
	ctx context.Context, st imageStore, args []string, when transfer.Policy, o transfer.Options, out io.Writer,
) error {
	release, err := st.Use(ctx)
	if err != nil {
		return err
	}
	defer release()

	for _, arg := range args {
		names := []string{arg}
		if f.all {
			if names, err = transfer.Tags(ctx, arg, o); err != nil {
				return fmt.Errorf("--all-tags: %w", err)
			}
		}
		for _, name := range names {
			id, _, err := transfer.Pull(ctx, st, name, when, o)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintln(out, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// options checks the flags and turns them into those of a pull.
func (f *pullCommand) options(base transfer.Options) (when transfer.Policy, o transfer.Options, err error) {
	if when, err = transfer.ParsePolicy(f.policy); err != nil {
		return when, o, fmt.Errorf("--policy: %w", err)
	}
	if o, err = f.access.apply(base); err != nil {
		return when, o, err
	}
	if err := f.retry.check(); err != nil {
		return when, o, err
	}
	if err := f.peers.check(); err != nil {
		return when, o, err
	}
	if f.platform.platform, err = f.platform.wanted(hostPlatform()); err != nil {
		return when, o, err
	}

	o = f.retry.apply(o)
	o.Platform, o.KeepName, o.NoSignatures = f.platform.ofImage(), true, f.unsigned
	return when, o, nil
}
