package transfer

import (
	"context"
	"fmt"
	"io"

	"go.podman.io/common/pkg/auth"
	"go.podman.io/image/v5/pkg/docker/config"
	"go.podman.io/image/v5/types"
)

// LoginOptions are the options of a login. Of the embedded Options only Access and the
// configuration of registries count.
type LoginOptions struct {
	Options
	CompatAuthFile string    // file in docker's format to write instead of AuthFile
	Username       string    // "": Login asks for the name on Stdout and reads the answer from Stdin
	Password       string    // "": from Stdin if PasswordStdin is set, else Login asks on the terminal
	PasswordStdin  bool      // Stdin holds the password and nothing else
	Verbose        bool      // report the path of the written file
	Stdin          io.Reader // for answers
	Stdout         io.Writer // for questions and the result
}

// Login asks a registry whether it accepts the credentials, and then stores them in the user's auth
// file or credential helper. target is a registry ("quay.io"), or a path in a registry for
// credentials that hold only there ("quay.io/team"). Without a user name Login tries known
// credentials first.
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

// GetLogin returns the user name of the stored credentials for target.
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

// Logout removes the stored credentials for target; "": all stored credentials. It reports this on
// stdout.
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
