package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"codeberg.org/rbuild/rbuild/pkg/registry"
	"codeberg.org/rbuild/rbuild/pkg/store"
)

func newPullCmd(a *app) *cobra.Command {
	var (
		access   accessFlags
		retry    retryFlags
		policy   string
		platform string
		quiet    bool
	)
	cmd := &cobra.Command{
		Use:   "pull [flags] IMAGE [IMAGE...]",
		Short: "Copy images from a registry, an archive or a directory into the store",
		Long: "Copy images into the store and print their IDs. IMAGE is a name in a registry, or names another place:\n" +
			"docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], dir:DIR.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			when, err := registry.ParsePolicy(policy)
			if err != nil {
				return fmt.Errorf("--policy: %w", err)
			}
			if err := checkPlatform(platform); err != nil {
				return err
			}
			o, err := access.apply(a.sys())
			if err != nil {
				return err
			}
			if err := retry.check(); err != nil {
				return err
			}
			o = retry.apply(o)
			if !quiet {
				o.Report = os.Stderr
			}
			for _, name := range args {
				if a.state == nil && !registry.IsRegistry(name) { // the process in the namespace comes here, too
					access.tellUnused(os.Stderr, name)
				}
			}
			return a.withStore(cmd.Context(), func(ctx context.Context, st *store.Store) error {
				release, err := st.Use(ctx)
				if err != nil {
					return err
				}
				defer release()
				for _, name := range args {
					id, _, err := registry.Pull(ctx, st.Storage(), name, when, o)
					if err != nil {
						return err
					}
					if _, err := fmt.Fprintln(cmd.OutOrStdout(), id); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	f := cmd.Flags()
	access.register(f)
	retry.register(f)
	f.StringVar(&policy, "policy", string(registry.PullAlways), "when to ask the registry: always, missing, newer or never")
	f.StringVar(&platform, "platform", "", "OS/ARCH[/VARIANT] of the image; only that of this machine")
	f.BoolVarP(&quiet, "quiet", "q", false, "print nothing but the IDs")
	return cmd
}
