package main

import (
	"fmt"

	"github.com/spf13/cobra"

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
		Short: "Store credentials for a registry",
		Long: "Ask a registry whether it accepts a user name and password, and store them for pull, push and build. REGISTRY may be\n" +
			"followed by a path (registry.example/team) to which the credentials are then limited.",
		Example: "  rbuild login registry.example\n  rbuild login -u ci --password-stdin registry.example < token",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			certDir, compat := o.CertDir, o.CompatAuthFile
			o.Options = a.RegistryOptions()
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
	f.StringVar(&authFile, "authfile", "",
		"File for the credentials, e.g. auth.json (default: $REGISTRY_AUTH_FILE, then podman's)")
	f.StringVar(&o.CompatAuthFile, "compat-auth-file", "",
		"File for the credentials in docker's format instead, e.g. config.json")
	f.StringVar(&o.CertDir, "cert-dir", "", "Directory with certificates for the registry, e.g. /etc/certs with ca.crt")
	f.StringVarP(&o.Username, "username", "u", "", "User name")
	f.StringVarP(&o.Password, "password", "p", "",
		"Password; other users of the machine can see it, prefer --password-stdin")
	f.BoolVar(&o.PasswordStdin, "password-stdin", false, "Read the password from standard input")
	f.BoolVar(&getLogin, "get-login", false, "Print the user name that is stored for the registry")
	f.BoolVar(&tlsVerify, "tls-verify", true, "Require TLS, with a certificate that can be verified")
	f.BoolVarP(&o.Verbose, "verbose", "v", false, "Report the file that was written")

	return cmd
}
