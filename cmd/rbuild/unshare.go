package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"

	"github.com/spf13/cobra"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

func newUnshareCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "unshare [COMMAND [ARG...]]",
		Short: "Run a command as root of the user namespace in which the store's files have their owners",
		Long: "Run COMMAND (default: $SHELL) as root of the user namespace that builds use. There the files of the store can be\n" +
			"read and removed that belong to subordinate ids. The exit code is that of COMMAND.",
		Example: "  rbuild unshare ls -l ~/.local/share/containers/storage\n  rbuild unshare chown -R 0:0 data",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{defaultShell(os.Getenv("SHELL"))}
			}
			return a.InNamespace(cmd.Context(), userns.Options{AllowSingle: true}, func(context.Context) error {
				a.WarnNamespace()
				return runCommand(args)
			})
		},
	}

	// Flags after COMMAND belong to COMMAND.
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func defaultShell(configured string) string {
	if configured == "" {
		return "/bin/sh"
	}
	return configured
}

// runCommand runs a command on the terminal of this process. An interrupt from the terminal reaches the command by itself;
// a signal that was sent to this process alone is passed on.
func runCommand(args []string) error {
	c := exec.Command(args[0], args[1:]...) //nolint:noctx // an interrupt is the command's business
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, stdoutFile(), stderrFile()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, fdfs.SIGTERM, fdfs.SIGHUP)
	defer signal.Stop(signals)

	if err := c.Start(); err != nil {
		return commandError(args[0], err)
	}
	go func() {
		for s := range signals {
			_ = c.Process.Signal(s) // fails only when the command has just ended
		}
	}()
	return commandError(args[0], c.Wait())
}

// commandError gives an error about a command the exit code that a shell gives it. It is nil if err is nil.
func commandError(name string, err error) error {
	failed, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return nil
	case ended && failed.ExitCode() < 0: // by a signal
		return &exitError{code: exitTool}
	case ended:
		return &exitError{code: failed.ExitCode()}
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return &exitError{code: 127, err: fmt.Errorf("running %s: %w", name, err)}
	}
	return &exitError{code: 126, err: fmt.Errorf("running %s: %w", name, err)}
}
