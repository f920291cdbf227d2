package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// TestCommandError: the exit code of a command that ran, or of the reason why it did not, is the one of a shell.
func TestCommandError(t *testing.T) {
	run := func(args ...string) error { return exec.CommandContext(t.Context(), args[0], args[1:]...).Run() }
	for _, tc := range []struct {
		name string
		err  error
		code int
		text string
	}{
		{"success", run("true"), 0, ""},
		{"an exit code", run("sh", "-c", "exit 7"), 7, "exit code 7"},
		{"a signal", run("sh", "-c", "kill -KILL $$"), exitTool, "exit code 125"},
		{"not in PATH", exec.ErrNotFound, 127, "running c: " + exec.ErrNotFound.Error()},
		{"no such file", fmt.Errorf("x: %w", os.ErrNotExist), 127, "running c: x: file does not exist"},
		{"another reason", errors.New("no memory"), 126, "running c: no memory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := commandError("c", tc.err)
			if tc.code == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			got, ok := errors.AsType[*exitError](err)
			if !ok || got.code != tc.code || err.Error() != tc.text {
				t.Errorf("%v, want %q with exit code %d", err, tc.text, tc.code)
			}
		})
	}
}

func TestDefaultShell(t *testing.T) {
	for configured, want := range map[string]string{"": "/bin/sh", "/bin/zsh": "/bin/zsh"} {
		if got := defaultShell(configured); got != want {
			t.Errorf("SHELL=%s: %s, want %s", configured, got, want)
		}
	}
}
