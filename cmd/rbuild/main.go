// Command rbuild builds OCI container images from Dockerfiles, as an ordinary user, without a daemon.
//
// One program plays three roles (docs/roles.md). The launcher reads the command line. The builder is the same program as
// root of a user namespace, where the store may be changed and steps may run. The init of each RUN step is a child of the
// builder that runs no Go code.
//
// Each command has one file: it defines its flags, makes one call and prints the result. Flags are parsed by internal/cli,
// and internal/engine does the work.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"

	"github.com/sirupsen/logrus"
	"go.podman.io/storage/pkg/reexec"

	"codeberg.org/rbuild/rbuild/internal/engine"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/lookpath"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// Exit codes beside those of engine.ExitCode and of commands that rbuild unshare runs.
const (
	exitFindings    = 1                       // of a check
	exitTool        = 125                     // a failure that is not that of a command in RUN, as podman has it
	exitInterrupted = 130                     // as a shell has it for SIGINT
	exitPipe        = 128 + int(fdfs.SIGPIPE) // nobody reads standard output any more
)

func main() {
	// The storage library unpacks pulled layers in a chroot, in a process of its own.
	if reexec.Init() {
		return
	}
	os.Exit(run())
}

// run is main with an exit code as its result.
func run() int {
	log.SetOutput(io.Discard) // x/crypto's SSH agent would let a step write lines to the user's terminal
	a := newApp()
	if err := cleanPath(); err != nil {
		return a.report(err)
	}

	state, err := userns.Join()
	if err != nil {
		return a.report(err)
	}
	a.State = state

	ctx, stop := signal.NotifyContext(context.Background(), fdfs.SIGINT, fdfs.SIGTERM, fdfs.SIGHUP)
	defer stop()
	signal.Notify(make(chan os.Signal, 1), fdfs.SIGPIPE) // a reader who goes away is an error of the write, and ends no build
	if state == nil {
		a.Watch(ctx) // a configuration file may be a pipe
	}

	if err := newRootCmd(a).ExecuteContext(ctx); err != nil {
		if ctx.Err() != nil {
			err = errors.Join(engine.ErrInterrupted, err)
		}
		return a.report(err)
	}
	// Some callers drop this error, for example the help of cobra.
	if err := a.stdout.Err(); err != nil && a.ExitCode == 0 {
		return a.report(err)
	}
	return a.ExitCode
}

// cleanPath removes the directories that are not absolute from PATH, for the programs that libraries start too: credential
// helpers, decompressors. In a context or a checkout such a directory may hold the files of others.
func cleanPath() error {
	path, ok := os.LookupEnv("PATH")
	if !ok {
		return nil
	}
	return os.Setenv("PATH", lookpath.Clean(path))
}

// exitError is an error that decides the exit code.
type exitError struct {
	code int
	err  error // nil: the error is printed already
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// report prints an error as one line, below the lines of the Dockerfile that it is about, and returns the exit code.
func (a *app) report(err error) int {
	code := exitTool
	if c, ok := engine.ExitCode(err); ok {
		code = c
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		code = e.code
		if e.err == nil {
			return code
		}
	}

	switch {
	case errors.Is(err, engine.ErrFindings):
		return exitFindings
	case errors.Is(err, engine.ErrInterrupted):
		fmt.Fprintln(a.stderr, "rbuild: interrupted")
		return exitInterrupted
	}

	logrus.Debugf("error: %+v", err)
	if gone := a.stdout.Err(); errors.Is(gone, fdfs.EPIPE) && errors.Is(err, gone) {
		return exitPipe
	}

	if source, ok := errors.AsType[*engine.SourceError](err); ok {
		source.Print(a.stderr)
	}
	fmt.Fprintln(a.stderr, "rbuild:", progress.Lines(err.Error()))
	return code
}
