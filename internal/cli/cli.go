// Package cli turns a command line into values: flags, environment and containers.conf into the structs of package spec.
//
// Each subject has one file, with a struct of its flags, a method register that defines them and a method parse that
// checks them and fills in its part of a [spec.Build]. The package is pure: it opens no file and reads no global state.
// All facts about the machine come in a [Host]. So every error about a command line is found before anything is done, and
// tests are tables of command lines.
//
// Package cli is also the only place that words errors with names of flags, such as "--memory-swap needs --memory", and
// that formats tables, templates and the help of commands.
//
// The flags are named and mean what buildah's do. Flags of buildah, podman and docker that rbuild does not have are
// refused with a reason (refused.go). Flags that change nothing here are accepted (compat.go).
package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/spec"
)

// Host holds the facts about the machine and the process that the meaning of flags depends on.
type Host struct {
	Env            spec.Lookup
	Environ        []string         // all variables, NAME=VALUE, for --env NAME*
	Platform       ocispec.Platform // of this machine, normalized
	Config         Config           // containers.conf
	Version        string           // of rbuild, for --identity-label
	SELinux        bool             // files and processes have SELinux labels
	StdoutTerminal bool
	// HardLimit returns the hard limit of this process for a limit such as RLIMIT_NOFILE. It is called for --ulimit only.
	HardLimit func(limit string) (uint64, error)
}

// BuildFlags are the flags of rbuild build.
type BuildFlags struct {
	input     inputFlags
	plan      planFlags
	named     contextFlags
	allow     allowFlags
	pull      pullFlags
	run       runFlags
	network   networkFlags
	limits    limitFlags
	security  securityFlags
	time      timeFlags
	cache     cacheFlags
	image     imageFlags
	result    resultFlags
	output    outputFlags
	described describeFlags
}

// describeFlags are the flags about the program itself: a description in place of a build, and flags without effect.
type describeFlags struct {
	call   callFlags
	compat CompatFlags
}

func (f *describeFlags) register(fs *pflag.FlagSet) {
	section(fs, SubjectOutput, f.call.register)
	f.compat.Register(BuildCommand, fs)
}

func (f *describeFlags) parse(h *Host, b *spec.Build) error {
	if err := f.call.parse(h, b); err != nil {
		return err
	}
	return f.compat.Check()
}

// flagGroup is the flags of one subject.
type flagGroup interface {
	register(fs *pflag.FlagSet)
	// parse checks the flags and sets their part of the build. A group may read the parts that earlier groups have set.
	parse(h *Host, b *spec.Build) error
}

// BuildCommand is the name of the command that builds.
const BuildCommand = "build"

func (f *BuildFlags) groups() []flagGroup {
	return []flagGroup{
		&f.input, &f.plan, &f.named, &f.allow, &f.pull, &f.run, &f.network, &f.limits, &f.security,
		&f.time, &f.cache, &f.image, &f.result, &f.output, &f.described,
	}
}

// Register defines the flags.
func (f *BuildFlags) Register(fs *pflag.FlagSet) {
	for _, g := range f.groups() {
		g.register(fs)
	}
}

// Parse returns the build that the flags and the argument ask for. args is empty or the build context. Parse may be called
// once for each parsed command line. Its error is one line that names the flag.
func (f *BuildFlags) Parse(args []string, h *Host) (*spec.Build, error) {
	b := &spec.Build{}
	b.Input.Context = "."
	if len(args) > 0 {
		b.Input.Context = args[0]
	}

	for _, g := range f.groups() {
		if err := g.parse(h, b); err != nil {
			return nil, err
		}
	}

	if b.Run.Stdin && b.Input.FromStdin() {
		return nil, errors.New("--stdin: standard input is the Dockerfile or the context already")
	}
	return b, nil
}

// boolVariable reads a variable of the environment that is true or false.
func boolVariable(name, text string) (bool, error) {
	yes, err := strconv.ParseBool(strings.ToLower(text))
	if err != nil {
		return false, fmt.Errorf("%s=%s in the environment: choose true or false", name, text)
	}
	return yes, nil
}
