package transfer

import (
	"context"
	"fmt"
	"io"

	"go.podman.io/common/pkg/auth"
	"go.podman.io/image/v5/pkg/docker/config"
	"go.podman.io/image/v5/types"
)

// LoginOptions are what login needs beside the Options. Of these AuthFile,
// CertDir, TLSVerify and RegistriesConf count.
type LoginOptions struct {
	Options
	CompatAuthFile string    // file in docker's format to write instead; excludes AuthFile
	Username       string    // empty: asked for on Stdin
	Password       string    // empty: read as PasswordStdin says, or asked for on the terminal
	PasswordStdin  bool      // the whole of Stdin is the password
	Verbose        bool      // say which file was written
	Stdin          io.Reader // where questions are answered
	Stdout         io.Writer // where they are asked, and the result is told
}

// Login asks the registry whether it accepts the credentials and then keeps
// them in the user's auth file or credential helper. target is a registry, or a
// registry and a path below it for credentials that hold only there. Credentials
// that are known already are tried first if no user name is given.
func Login(ctx context.Context, target string, o LoginOptions) error {
	sys, err := o.systemContext()
	if err != nil {
		return err
	}

	err = o.watched(ctx, func(ctx context.Context, _ chan types.ProgressProperties) error {
		return auth.Login(ctx, sys, &auth.LoginOptions{
			AuthFile:             o.AuthFile,
			DockerCompatAuthFile: o.CompatAuthFile,
			CertDir:              o.CertDir,
			Username:             o.Username,
			Password:             o.Password,
			StdinPassword:        o.PasswordStdin,
			Verbose:              o.Verbose,
			Stdin:                o.Stdin,
			Stdout:               o.Stdout,
			AcceptRepositories:   true,
		}, []string{target})
	})
	if err != nil {
		return fmt.Errorf("logging in to %s: %w", target, err)
	}

	return nil
}

// GetLogin returns the user name that is kept for target.
func GetLogin(target string, o Options) (string, error) {
	sys, err := o.systemContext()
	if err != nil {
		return "", err
	}

	credentials, err := config.GetCredentials(sys, target)
	if err != nil {
		return "", fmt.Errorf("reading the credentials for %s: %w", target, err)
	}
	if credentials.Username == "" {
		return "", fmt.Errorf("not logged in to %s", target)
	}
	return credentials.Username, nil
}

// Logout forgets the credentials for target, or all there are if target is
// empty. It says so on stdout.
func Logout(target, compatAuthFile string, o Options, stdout io.Writer) error {
	sys, err := o.systemContext()
	if err != nil {
		return err
	}

	var targets []string
	if target != "" {
		targets = []string{target}
	}
	err = auth.Logout(sys, &auth.LogoutOptions{
		AuthFile:             o.AuthFile,
		DockerCompatAuthFile: compatAuthFile,
		All:                  target == "",
		AcceptRepositories:   true,
		Stdout:               stdout,
	}, targets)
	if err != nil {
		return fmt.Errorf("logging out: %w", err)
	}
	return nil
}
