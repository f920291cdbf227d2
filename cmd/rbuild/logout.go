package main

import (
	"errors"

	"github.com/spf13/cobra"

	"codeberg.org/rbuild/rbuild/internal/transfer"
)

func newLogoutCmd(a *app) *cobra.Command {
	var (
		authFile string
		compat   string
		all      bool
	)

	cmd := &cobra.Command{
		Use:     "logout [flags] [REGISTRY]",
		Short:   "Remove the credentials for a registry",
		Example: "  rbuild logout registry.example\n  rbuild logout --all",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			target := ""
			switch {
			case all && len(args) > 0:
				return errors.New("--all takes no registry")
			case !all && len(args) == 0:
				return errors.New("name a registry, or use --all")
			case len(args) > 0:
				target = args[0]
			}

			o := a.RegistryOptions()
			if authFile != "" {
				o.AuthFile = authFile
			} else if compat != "" {
				o.AuthFile = ""
			}

			return transfer.Logout(target, compat, o, cmd.OutOrStdout())
		},
	}

	f := cmd.Flags()
	f.StringVar(&authFile, "authfile", "",
		"File with the credentials, e.g. auth.json (default: $REGISTRY_AUTH_FILE, then podman's)")
	f.StringVar(&compat, "compat-auth-file", "", "File with the credentials in docker's format, e.g. config.json")
	f.BoolVarP(&all, "all", "a", false, "Remove the credentials for all registries")

	return cmd
}
