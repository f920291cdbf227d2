package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/lint"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// planFlags say what of the Dockerfile is built, with which arguments.
type planFlags struct {
	target     string
	buildArgs  []string
	argFiles   []string
	env        []string
	httpProxy  bool
	skipUnused bool
	mounts     []string
	from       string
	platforms  []string
	os         string
	arch       string
	variant    string

	platform ocispec.Platform // what is built for
}

func (f *planFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.target, "target", "", "stage to build (default: the last)")
	fs.StringArrayVar(&f.buildArgs, "build-arg", nil, "NAME=VALUE for an ARG; NAME alone takes the environment's value")
	fs.StringArrayVar(&f.argFiles, "build-arg-file", nil, "file with a NAME=VALUE for an ARG on each line; --build-arg wins")
	fs.StringArrayVar(&f.env, "env", nil, "NAME=VALUE for the environment of RUN and of the image; NAME alone takes the environment's value")
	fs.BoolVar(&f.httpProxy, "http-proxy", true, "pass the proxy variables of the environment to RUN")
	fs.BoolVar(&f.skipUnused, "skip-unused-stages", true, "build only the stages that the target needs; false: all before it")
	fs.StringArrayVar(&f.mounts, "mount", nil, "mount of every RUN, as in RUN --mount, e.g. type=cache,target=/root/.cache")
	fs.StringVar(&f.from, "from", "", "image in place of what the first FROM names")
	f.registerPlatform(fs)
}

// registerPlatform adds the flags of the platform. Commands bud and pull have these flags.
func (f *planFlags) registerPlatform(fs *pflag.FlagSet) {
	fs.StringSliceVar(&f.platforms, "platform", nil, "OS/ARCH[/VARIANT] of the image (default: the host's)")
	fs.StringVar(&f.os, "os", "", "operating system of the image")
	fs.StringVar(&f.arch, "arch", "", "architecture of the image")
	fs.StringVar(&f.variant, "variant", "", "variant of that architecture")
}

func (f *planFlags) apply(env lookup, o *builder.Options) (err error) {
	o.Run.Machine = hostPlatform()
	if err := (buildArgs{}).setAll(f.buildArgs, env); err != nil {
		return err
	}
	if _, err := envVars(f.env, nil); err != nil {
		return err
	}
	if _, err := f.runMounts(); err != nil {
		return err
	}
	if f.platform, err = f.wanted(o.Run.Machine); err != nil {
		return err
	}
	return nil
}

// runMounts reads --mount.
func (f *planFlags) runMounts() (flags []instructions.MountFlag, err error) {
	for _, text := range f.mounts {
		m, err := instructions.ParseMountFlag(text)
		if err != nil {
			return nil, fmt.Errorf("--mount %q: %w", text, err)
		}
		flags = append(flags, m)
	}
	return flags, nil
}

// ofImage is the platform that the image is to be for; the zero value: no flag says it.
func (f *planFlags) ofImage() (p ocispec.Platform) {
	if len(f.platforms) > 0 || f.os != "" || f.arch != "" || f.variant != "" {
		return f.platform
	}
	return p
}

// wanted is the platform that the flags name.
func (f *planFlags) wanted(host ocispec.Platform) (p ocispec.Platform, err error) {
	parts := f.os != "" || f.arch != "" || f.variant != ""
	switch {
	case len(f.platforms) > 1:
		return p, fmt.Errorf("--platform %s: one platform at a time; this version of rbuild makes no lists of images", strings.Join(f.platforms, ","))
	case len(f.platforms) == 1 && parts:
		return p, errors.New("--platform says what --os, --arch and --variant say: give it alone")
	case len(f.platforms) == 1 && f.platforms[0] != "local":
		p, ok := plan.ParsePlatform(f.platforms[0], host)
		if !ok {
			return p, fmt.Errorf("--platform %q: want OS/ARCH[/VARIANT]", f.platforms[0])
		}
		return p, nil
	}

	if p = host; f.os != "" {
		p.OS = f.os
	}
	if f.arch != "" {
		p.Architecture, p.Variant = f.arch, ""
	}
	if f.variant != "" {
		p.Variant = f.variant
	}
	p, ok := plan.ParsePlatform(platforms.Format(p), host)
	if !ok {
		return p, fmt.Errorf("--os %q, --arch %q, --variant %q: no platform", f.os, f.arch, f.variant)
	}

	return p, nil
}

// make parses the Dockerfile and sets what is to be done with it. After an error of the plan the linter is set all the
// same. The build arguments of want are defaults for those of the flags.
func (f *planFlags) make(in *input, o *builder.Options, env lookup, want plan.Options) (*instructions.File, error) {
	file, err := instructions.ParseTexts(in.texts...)
	if err != nil {
		return nil, err
	}

	args, err := f.arguments(env)
	if err != nil {
		return nil, err
	}

	for name, value := range want.BuildArgs {
		if _, given := args[name]; !given {
			args[name] = value
		}
	}

	contextEpoch(args, in.time)
	if err := warnings(file, args, o.Listener); err != nil {
		return nil, err
	}

	vars, err := envVars(f.env, os.Environ())
	if err != nil {
		return nil, err
	}

	want.Target, want.BuildArgs, want.Env, want.AllStages = f.target, args, vars, want.AllStages || !f.skipUnused
	want.Platform, want.Host, want.From = f.platform, o.Run.Machine, f.from
	if want.Mounts, err = f.runMounts(); err != nil {
		return nil, err
	}
	if o.Checks.Linter, err = lint.New(file, args); err != nil {
		return nil, err
	}

	o.Checks.Options = lint.Options{PlanOptions: want, Ignore: in.ignore}
	if o.Plan, err = plan.New(file, want); err != nil {
		return file, err
	}

	for _, name := range o.Cache.Uncached {
		if !slices.ContainsFunc(file.Stages, func(s instructions.Stage) bool { return s.Name != "" && strings.EqualFold(s.Name, name) }) {
			warn(o.Listener, fmt.Sprintf("--no-cache-filter %s: no stage has this name", name))
		}
	}

	for _, name := range o.Plan.Unused {
		text := fmt.Sprintf("build argument %s: no ARG declares it", name)
		if match := instructions.Suggest(name, declaredArgs(file)); match != "" {
			text += " (did you mean " + match + "?)"
		}
		warn(o.Listener, text)
	}

	for _, name := range o.Plan.UnusedContexts {
		warn(o.Listener, fmt.Sprintf("build context %s: nothing in the file names it", name))
	}

	return file, nil
}

// warnings tells what is doubtful about the Dockerfile, and refuses a frontend that is not known.
func warnings(file *instructions.File, args buildArgs, to progress.Listener) error {
	syntax, err := file.CheckSyntax(args["BUILDKIT_SYNTAX"])
	if err != nil {
		return err
	}
	if syntax != nil {
		warn(to, file.WarningText(*syntax))
	}
	for _, w := range file.Warnings {
		warn(to, file.WarningText(w))
	}
	return nil
}

// declaredArgs are the names that the Dockerfile has an ARG for.
func declaredArgs(file *instructions.File) (names []string) {
	note := func(list []instructions.Instruction) {
		for _, in := range list {
			arg, _ := in.Command.(instructions.Arg)
			for _, v := range arg.Vars {
				names = append(names, v.Key)
			}
		}
	}

	note(file.Args)
	for _, st := range file.Stages {
		note(st.Instructions)
	}
	return names
}

func warn(to progress.Listener, text string) {
	to.Event(progress.Event{Kind: progress.Warning, Text: text})
}

// contextEpoch makes a number of SOURCE_DATE_EPOCH=context: the time of the context, if that was fetched. Otherwise, as
// with BuildKit, there is none, which the build tells.
func contextEpoch(args buildArgs, t time.Time) {
	const name = "SOURCE_DATE_EPOCH"
	if args[name] == "context" && !t.IsZero() {
		args[name] = strconv.FormatInt(t.Unix(), 10)
	}
}

// arguments are all build arguments.
func (f *planFlags) arguments(env lookup) (buildArgs, error) {
	args := buildArgs{}
	for _, path := range f.argFiles {
		if err := args.readFile(path, env); err != nil {
			return nil, err
		}
	}

	if err := args.setAll(f.buildArgs, env); err != nil {
		return nil, err
	}

	if f.httpProxy {
		args.proxies(env)
	}
	return args, nil
}

// hostPlatform is this machine's.
func hostPlatform() ocispec.Platform {
	return platforms.Normalize(ocispec.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH})
}
