// Package engine assembles one build: it opens the files that a [spec.Build] names, chooses where images are kept, calls
// the loop of package builder, and delivers the result.
//
//	Engine.Build        in the launcher: enters a user namespace, or builds without one
//	  build.run         in the builder: input -> plan -> options of the loop -> builder.Build -> result
//	    openInput       the Dockerfile and the context
//	    makePlan        arguments, linter, plan
//	    options         the spec as builder.Options (options.go; nothing is opened)
//	    openRun         volumes, secrets, agents, devices, cgroups
//	    deliver         pushes, archives, files with the ID
//
// The engine knows no flags, no terminal and no exit code. The process around it hands over everything in a [Process]: the
// streams, the environment and the state of the user namespace. Package main does so for the command line, package rbuild
// for programs that embed rbuild.
//
// Two processes run the same code (docs/roles.md). The launcher checks its input, then starts itself again as the builder,
// which is root of a user namespace and does the work. A launcher that may not make a user namespace does the work alone,
// in memory, if the Dockerfile has no RUN (docs/plain.md).
package engine

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/sirupsen/logrus"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/internal/transfer"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// Process is the process that the engine works in.
type Process struct {
	State   *userns.State // nil: this process is the launcher
	Env     spec.Lookup
	Environ []string // all variables, NAME=VALUE, for git and for other programs that the engine starts

	Stdin  *os.File         // a Dockerfile, a context, or input of RUN
	Stdout *os.File         // archives and tars
	Text   io.Writer        // the ID of the image, or the answer of a Call
	Log    *progress.Stream // progress and warnings

	Store      containers.Options
	RootRemedy string                  // for errors: how the user chooses another directory, for example ", choose it with --root"
	Registry   func() transfer.Options // how registries are reached before the spec adds its values

	// Files are inherited by the builder under the same numbers.
	Files []*os.File
	// Abandon ends the process at once with err. The engine calls it if the process was told to end, and ten seconds later
	// still waits for a lock of the store.
	Abandon func(err error)
}

// Engine works for one process. It is not safe for concurrent use.
type Engine struct {
	Process

	// ExitCode is the exit code of the builder, in a launcher that has waited for one.
	ExitCode int

	calm func() bool // ends Watch in the launcher
}

// New returns the engine of a process.
func New(p Process) *Engine { return &Engine{Process: p} }

// ErrInterrupted is the cause of a build that a signal has ended.
var ErrInterrupted = errors.New("interrupted")

// patience is the time that a command has to end when it is told to. The storage library waits for locks of the store
// without a limit, and a process that holds a lock may be stopped.
const patience = 10 * time.Second

// Watch abandons the process if ctx has ended and ten seconds have passed before done is called. Files that are left behind
// are removed by the next command. In the launcher Watch ends also when the builder is started.
func (e *Engine) Watch(ctx context.Context) (done func() bool) {
	done = context.AfterFunc(ctx, func() {
		time.Sleep(patience)
		if limit, ok := errors.AsType[*builder.TimeoutError](context.Cause(ctx)); ok {
			e.Abandon(limit)
			return
		}
		e.Abandon(ErrInterrupted)
	})
	if e.State == nil && e.calm == nil {
		e.calm = done
	}
	return done
}

// WarnNamespace logs the warnings about the namespace.
func (e *Engine) WarnNamespace() {
	for _, w := range e.State.Warnings {
		logrus.Warn(w)
	}
}

// OuterUID returns the ID of the user who runs rbuild, also in the builder, which is root of its namespace.
func (e *Engine) OuterUID() int {
	if e.State != nil {
		return e.State.UID
	}
	return os.Getuid()
}

// trusted reports whether this process is real root.
func (e *Engine) trusted() bool { return e.State != nil && !e.State.Rootless() }
