package rbuild

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Options describes one build. The zero value builds the Dockerfile of the working directory and gives the image no name.
// Relative paths are relative to the working directory of the program.
type Options struct {
	// Context is a directory, the URL of a git repository, or the URL of a tar archive; empty: the working directory.
	Context string
	// Dockerfile is a path or a URL; empty: Containerfile or Dockerfile of the context.
	Dockerfile string
	// Target is the name of the last stage to build, in any case; empty: the last stage of the Dockerfile.
	Target string
	// Tags are names of the image, for example "app" or "registry.example/team/app:1".
	Tags []string
	// Args are build arguments by name, for the ARG instructions of the Dockerfile.
	Args map[string]string
	// Platform is the platform that the image is for, for example "linux/arm64"; empty: this machine.
	Platform string
	// Pull says when base images are pulled; empty: PullMissing.
	Pull PullPolicy
	// NoCache runs every step, and uses no layers of earlier builds.
	NoCache bool
	// Timestamp is the time of the image, its history and all files of its new layers; nil: the time of the build.
	// With a Timestamp, the same input gives the same image.
	Timestamp *time.Time
	// Secrets are values for RUN --mount=type=secret, by ID. They enter no layer, no log and no cache key. At most 500 KiB
	// each.
	Secrets map[string][]byte
	// Store is the store of images and layers; the zero value is the store of podman.
	Store Store
	// Events is called for each event of the build, by one goroutine at a time; nil: events are discarded. It must not
	// keep Event.Output.
	Events func(Event) `json:"-"`
}

// Store names the directories of a containers/storage store. Empty: those of storage.conf.
type Store struct {
	Root    string // images and layers, for example /srv/images
	RunRoot string // run-time state, on a file system that a restart empties
}

// PullPolicy says when base images are pulled.
type PullPolicy string

// The pull policies.
const (
	PullMissing PullPolicy = "missing" // images that the store does not have
	PullAlways  PullPolicy = "always"  // every image
	PullNewer   PullPolicy = "newer"   // images that differ from those of the store; a registry that is down is no error
	PullNever   PullPolicy = "never"   // no image
)

// Image is an image of the store.
type Image struct {
	ID     string   // 64 hexadecimal digits
	Digest string   // of the manifest, for example "sha256:ab12…"
	Names  []string // full references, for example "localhost/app:latest"
}

// String returns the first name of the image, or the first 12 digits of its ID.
func (i Image) String() string {
	if len(i.Names) > 0 {
		return i.Names[0]
	}
	return i.ID[:min(len(i.ID), 12)]
}

// Result is the outcome of a build.
type Result struct {
	Image Image
}

// Error is a failed build.
type Error struct {
	Text string // one line, which names the line of the Dockerfile if one is the cause
	// ExitCode is the exit code of the command of a failed RUN; 0: another cause.
	ExitCode int
	// Lines are the lines of the Dockerfile that the error is about, the first with the number FirstLine; nil: none.
	Lines     []string
	FirstLine int
}

func (e *Error) Error() string { return e.Text }

// EventKind is the kind of an Event. New kinds may be added.
type EventKind string

// The kinds of events.
const (
	StepStarted EventKind = "started" // opens a step
	StepOutput  EventKind = "output"  // a step has written Output
	StepCached  EventKind = "cached"  // closes a step whose result is in the cache
	StepDone    EventKind = "done"    // closes a step that succeeded
	StepFailed  EventKind = "failed"  // closes a step that failed
	StepStopped EventKind = "stopped" // closes a step that ended because another step failed
	Notice      EventKind = "notice"  // Text is a line for the user
	Warning     EventKind = "warning" // Text is a line about a probable mistake
)

// Event is something that happened during a build. Fields that do not apply are zero.
type Event struct {
	Kind          EventKind
	Stage         string // name of the stage, or its number as text; empty: the only stage
	Number, Total int    // of the step in its stage, from 1
	Text          string // the instruction of a step, for example "RUN make", or the text of a Notice or Warning
	Output        []byte // whole lines, or a part of a long line
	Elapsed       time.Duration
	Error         string // of a failed step
}

// String returns the event as one line of a log, for example "[build 2/3] RUN make: done (1.2s)". It is empty for output.
func (e Event) String() string {
	switch e.Kind {
	case StepOutput:
		return ""
	case Notice, Warning:
		return string(e.Kind) + ": " + e.Text
	case StepStarted, StepCached, StepDone, StepFailed, StepStopped:
	}

	line := fmt.Sprintf("[%d/%d] %s: %s", e.Number, e.Total, e.Text, e.Kind)
	if e.Stage != "" {
		line = fmt.Sprintf("[%s %s", e.Stage, line[1:])
	}
	if e.Elapsed > 0 {
		line += fmt.Sprintf(" (%s)", e.Elapsed.Round(time.Millisecond))
	}
	if e.Error != "" {
		line += ": " + e.Error
	}
	return line
}

// Main must be called first in the main function of a program that calls [Build]. In the processes that Build and the
// storage library start from the same program, Main does their work and exits. In the program itself it returns at once.
func Main() {
	if runHelper(); isBuilder() {
		serve()
	}
}

// Build builds one image. The error of a build that failed is an [*Error]; other errors are about Options and about the
// start of the builder.
//
// Build is safe for concurrent use. When ctx ends, the build ends, and its finished layers stay in the cache.
func Build(ctx context.Context, o Options) (Result, error) {
	s, err := o.spec()
	if err != nil {
		return Result{}, fmt.Errorf("rbuild: %w", err)
	}
	result, err := launch(ctx, o, s)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return Result{}, errors.Join(cause, err)
	}
	return result, err
}
