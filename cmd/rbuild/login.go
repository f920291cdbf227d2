package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.podman.io/storage/pkg/homedir"
	"go.podman.io/storage/pkg/unshare"

	"codeberg.org/rbuild/rbuild/internal/transfer"
)

func newLoginCmd(a *app) *cobra.Command {
	var (
		o         transfer.LoginOptions
		authFile  string
		tlsVerify bool
		getLogin  bool
	)

	cmd := &cobra.Command{
		Use:   "login [flags] REGISTRY",
		Short: "Keep credentials for a registry",
		Long: "Ask a registry whether it accepts a user name and password, and keep them for pull, push and bud. REGISTRY may be\n" +
			"followed by a path (registry.example/team) to which the credentials are then limited.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			certDir, compat := o.CertDir, o.CompatAuthFile
			o.Options = a.sys()
			o.CertDir = certDir
			if authFile != "" {
				o.AuthFile = authFile
			} else if compat != "" {
				o.AuthFile = ""
			}

			if cmd.Flags().Changed("tls-verify") {
				o.TLSVerify = &tlsVerify
			}
			if getLogin {
				user, err := transfer.GetLogin(args[0], o.Options)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), user)
				return err
			}

			o.Stdin, o.Stdout = cmd.InOrStdin(), cmd.OutOrStdout()
			return transfer.Login(cmd.Context(), args[0], o)
		},
	}

	f := cmd.Flags()
	f.StringVar(&authFile, "authfile", "", "file to keep the credentials in (default: $REGISTRY_AUTH_FILE, then podman's)")
	f.StringVar(&o.CompatAuthFile, "compat-auth-file", "", "file in docker's format to keep the credentials in instead")
	f.StringVar(&o.CertDir, "cert-dir", "", "directory with certificates for the registry")
	f.StringVarP(&o.Username, "username", "u", "", "user name")
	f.StringVarP(&o.Password, "password", "p", "", "password; other users of the machine can see it, prefer --password-stdin")
	f.BoolVar(&o.PasswordStdin, "password-stdin", false, "read the password from standard input")
	f.BoolVar(&getLogin, "get-login", false, "print the user name that is kept for the registry")
	f.BoolVar(&tlsVerify, "tls-verify", true, "require TLS, with a certificate that can be verified")
	f.BoolVarP(&o.Verbose, "verbose", "v", false, "say which file was written")

	return cmd
}

// ensureRuntimeDir makes sure that the libraries look for the user's
// credentials where the user can have put them. Without $XDG_RUNTIME_DIR (cron,
// su, a service) the one for credentials would look in /run/containers/UID, and
// UID is 0 in the user namespace of the builder: a directory of real root, if
// there is one. The one for the store has a directory for this case, which is
// the same inside the namespace and outside.
func ensureRuntimeDir() error {
	if os.Getenv("XDG_RUNTIME_DIR") != "" || unshare.GetRootlessUID() == 0 {
		return nil
	}
	dir, err := homedir.GetRuntimeDir()
	if err != nil {
		return fmt.Errorf("choosing a directory in place of $XDG_RUNTIME_DIR: %w", err)
	}
	return os.Setenv("XDG_RUNTIME_DIR", dir)
}
