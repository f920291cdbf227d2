package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/spec"
)

// outputFlags choose the report of the build.
type outputFlags struct {
	progress  string
	quiet     bool
	logFile   string
	logSplit  bool
	usage     bool
	usageFile string
	flags     *pflag.FlagSet
}

func (f *outputFlags) register(fs *pflag.FlagSet) {
	section(fs, SubjectOutput, func(fs *pflag.FlagSet) {
		fs.StringVar(&f.progress, "progress", "auto",
			"Form of the progress: auto, plain, tty, quiet, none or rawjson (default: $BUILDKIT_PROGRESS, else auto)")
		fs.BoolVarP(&f.quiet, "quiet", "q", false, "Print the image's ID only")
		fs.StringVar(&f.logFile, "logfile", "", "File for the text that standard error would show, e.g. build.log")
		fs.BoolVar(&f.logSplit, "logsplit", false,
			"Add the platform to the name of --logfile, e.g. build.log_linux_amd64")
		fs.BoolVar(&f.usage, "log-rusage", false, "Print a line with the time and the resources of each step")
		fs.StringVar(&f.usageFile, "rusage-logfile", "", "File for the lines of --log-rusage, e.g. usage.log")
		f.flags = fs
	})
}

// progressModes are the values of --progress.
var progressModes = []string{"auto", "plain", "tty", "quiet", "none", "rawjson"}

func (f *outputFlags) parse(h *Host, b *spec.Build) error {
	if f.logSplit && f.logFile == "" {
		return errors.New("--logsplit needs --logfile")
	}

	mode := f.progress
	if text, _ := h.Env("BUILDKIT_PROGRESS"); text != "" && !f.flags.Changed("progress") {
		if !slices.Contains(progressModes, text) {
			return fmt.Errorf("BUILDKIT_PROGRESS in the environment: %q: choose %s", text,
				strings.Join(progressModes, ", "))
		}
		mode = text
	}
	if !slices.Contains(progressModes, mode) {
		return fmt.Errorf("--progress %q: choose %s", mode, strings.Join(progressModes, ", "))
	}

	o := &b.Output
	o.Progress = mode
	o.Quiet = f.quiet
	o.Usage = f.usage
	o.UsageFile = spec.File{Path: f.usageFile, From: "--rusage-logfile"}
	o.LogFile = spec.File{Path: f.logFile, From: "--logfile"}
	if f.logSplit {
		o.LogFile.Path += "_" + b.Plan.Platform.OS + "_" + b.Plan.Platform.Architecture
	}
	b.Pull.Quiet = f.quiet
	return nil
}
