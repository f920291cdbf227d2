// Command rbuild builds OCI container images from Dockerfiles, as an ordinary user, without a daemon.
//
// One program plays three roles (docs/roles.md): the launcher reads the command line; the builder is the same program
// as root of a user namespace of its own, where the store may be touched and steps may be run; the init of each RUN
// step is a child of the builder that never runs Go code of its own.
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"

	"github.com/sirupsen/logrus"
	"go.podman.io/storage/pkg/reexec"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/lookpath"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// exitTool is the exit code for a failure that is not that of a command in RUN, as podman has it.
const exitTool = 125

func main() {
	// The library unpacks pulled layers in a chroot, in a process of its own.
	if reexec.Init() {
		return
	}
	os.Exit(run())
}

// run is main with an exit code for a result.
func run() int {
	log.SetOutput(io.Discard) // x/crypto's SSH agent would let a step write lines to the user's terminal
	a := &app{}
	a.openStreams()
	if err := cleanPath(); err != nil {
		return a.report(err)
	}

	state, err := userns.Join()
	if err != nil {
		return a.report(err)
	}

	a.state = state
	ctx, stop := signal.NotifyContext(backgroundContext(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()

	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE) // a reader who goes away is an error of the write, and ends no build
	if state == nil {
		a.patient = a.endAnyway(ctx) // a file of settings may be a pipe
	}
	if err := newRootCmd(a).ExecuteContext(ctx); err != nil {
		if ctx.Err() != nil {
			err = errors.Join(errInterrupted, err)
		}
		return a.report(err)
	}
	if err := a.stdout.Err(); err != nil && a.exit == 0 { // some callers drop this error, for example the help of cobra
		return a.report(err)
	}

	return a.exit
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

// exitPipe is the exit code where the reader of standard output has gone away: that of a shell for SIGPIPE.
const exitPipe = 128 + int(unix.SIGPIPE)

var errInterrupted = errors.New("interrupted")

// exitError is an error that decides the exit code.
type exitError struct {
	code int
	err  error // nil: nothing to print
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// report prints an error as one line, below the lines of the Dockerfile that it is about, and returns the exit code.
func (a *app) report(err error) int {
	code := exitTool
	if e, ok := errors.AsType[*exitError](err); ok {
		code = e.code
		if e.err == nil {
			return code
		}
	}

	if errors.Is(err, errInterrupted) {
		fmt.Fprintln(a.stderr, "rbuild: interrupted")
		return 130
	}

	logrus.Debugf("error: %+v", err)
	if gone := a.stdout.Err(); errors.Is(gone, unix.EPIPE) && errors.Is(err, gone) {
		return exitPipe // nobody wants to know more
	}

	if place, ok := errors.AsType[*sourceError](err); ok {
		place.print(a.stderr)
	}
	fmt.Fprintln(a.stderr, "rbuild:", progress.Lines(err.Error()))

	return code
}
