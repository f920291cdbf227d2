package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/progress"
)

// outputFlags say what the user gets to see.
type outputFlags struct {
	progress string
	quiet    bool
	logFile  string
	logSplit bool
	usage    usageFlags

	flags    *pflag.FlagSet
	platform ocispec.Platform // what is built for
}

func (f *outputFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.progress, "progress", "auto", "auto, plain, tty, quiet, none or rawjson (default: $BUILDKIT_PROGRESS, else auto)")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "print the image's ID only")
	fs.StringVar(&f.logFile, "logfile", "", "file for what would be shown on standard error")
	fs.BoolVar(&f.logSplit, "logsplit", false, "add the platform to the name of --logfile, e.g. FILE_linux_amd64")
	f.usage.register(fs)
	f.flags = fs
}

// progressModes are the values of --progress.
var progressModes = []string{"auto", "plain", "tty", "quiet", "none", "rawjson"}

func (f *outputFlags) apply(env lookup, _ *builder.Options) error {
	if f.logSplit && f.logFile == "" {
		return errors.New("--logsplit needs --logfile")
	}

	if mode, _ := env("BUILDKIT_PROGRESS"); mode != "" && !f.flags.Changed("progress") {
		if !slices.Contains(progressModes, mode) {
			return fmt.Errorf("BUILDKIT_PROGRESS in the environment: %q: choose %s", mode, strings.Join(progressModes, ", "))
		}
		f.progress = mode
	}

	if !slices.Contains(progressModes, f.progress) {
		return fmt.Errorf("--progress %q: choose %s", f.progress, strings.Join(progressModes, ", "))
	}
	return nil
}

// log returns the path of the log file, with the platform if --logsplit is set. It is "" without --logfile.
func (f *outputFlags) log() string {
	if !f.logSplit {
		return f.logFile
	}
	return f.logFile + "_" + f.platform.OS + "_" + f.platform.Architecture
}

// listener is where progress goes: by default a live view on a terminal, and lines elsewhere. finish restores the
// terminal; it may be called more than once.
func (f *outputFlags) listener(stderr *progress.Stream) (l progress.Listener, finish func() error, err error) {
	out, finish := stderr, func() error { return nil }
	if f.logFile != "" {
		file, err := os.OpenFile(f.log(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, nil, fmt.Errorf("--logfile: %w", err)
		}
		out, finish = progress.NewStream(file, false), sync.OnceValue(file.Close)
	}

	switch {
	case f.quiet || f.progress == "quiet" || f.progress == "none":
		return progress.Quiet(out.Steps()), finish, nil
	case f.progress == "rawjson":
		return progress.JSON(out), finish, nil
	case f.progress == "tty" || f.progress == "auto" && out.Terminal() && os.Getenv("TERM") != "dumb":
		t, closeOut := progress.Terminal(out.Raw(), progress.TerminalOptions{NoColor: os.Getenv("NO_COLOR") != ""}), finish
		return t, sync.OnceValue(func() error { return errors.Join(t.Close(), closeOut()) }), nil
	}

	return progress.Plain(out.Steps()), finish, nil
}

// notices is where lines of text go that tell of a pull or a push.
func (f *outputFlags) notices(to progress.Listener) io.Writer {
	if f.quiet {
		return nil
	}
	return notices{to}
}

// notices makes lines of text events.
type notices struct{ to progress.Listener }

func (n notices) Write(p []byte) (int, error) {
	n.to.Event(progress.Event{Kind: progress.Notice, Text: strings.TrimRight(string(p), "\n")})
	return len(p), nil
}
