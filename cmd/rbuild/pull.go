package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/engine"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

func newPullCmd(a *app) *cobra.Command {
	var f cli.PullFlags
	cmd := &cobra.Command{
		Use:   "pull [flags] IMAGE [IMAGE...]",
		Short: "Copy images from a registry, an archive or a directory into the store",
		Long: "Copy images into the store and print their IDs. IMAGE is a name in a registry, or names another place:\n" +
			"docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], dir:DIR.\n" +
			"docker:cli and dir:latest are names of images. Write dir:./latest for the directory.",
		Example: "  rbuild pull alpine:3\n" +
			"  rbuild pull --platform linux/arm64 docker.io/library/debian\n" +
			"  rbuild pull oci-archive:app.tar",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := f.Parse(hostPlatform())
			if err != nil {
				return err
			}
			o, err := a.pullOptions(p, f.Quiet)
			if err != nil {
				return err
			}

			for _, name := range args {
				if a.State == nil && !transfer.IsRegistry(name) { // the builder parses the same flags again
					f.Access.WarnUnused(a.stderr, name)
				}
			}
			return a.WithImages(cmd.Context(), func(ctx context.Context, stores engine.Stores) error {
				return a.pull(ctx, stores[0], args, f.AllTags, p.Policy, o)
			})
		},
	}

	f.Register(cmd.Flags())
	return cmd
}

func (a *app) pullOptions(p cli.Pull, quiet bool) (o transfer.Options, err error) {
	if o, err = engine.Access(a.RegistryOptions(), p.Access); err != nil {
		return o, err
	}
	if !quiet {
		a.reportTo(&o)
	}
	o.Platform = p.Platform
	o.KeepName = true
	o.NoSignatures = p.NoSignatures
	return o, nil
}

// pull pulls images and prints their IDs.
func (a *app) pull(ctx context.Context, st engine.ImageStore, args []string, allTags bool, when transfer.Policy, o transfer.Options) error {
	release, err := st.Use(ctx)
	if err != nil {
		return err
	}
	defer release()

	for _, arg := range args {
		names := []string{arg}
		if allTags {
			if names, err = transfer.Tags(ctx, arg, o); err != nil {
				return fmt.Errorf("--all-tags: %w", err)
			}
		}
		for _, name := range names {
			id, _, err := transfer.Pull(ctx, st, name, when, o)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintln(a.stdout, id); err != nil {
				return err
			}
		}
	}
	return nil
}
