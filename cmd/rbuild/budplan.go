package main

import (
	"fmt"
	"runtime"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/pkg/build"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
	"codeberg.org/rbuild/rbuild/pkg/lint"
	"codeberg.org/rbuild/rbuild/pkg/plan"
	"codeberg.org/rbuild/rbuild/pkg/progress"
)

// planFlags say what of the Dockerfile is built, with which arguments.
type planFlags struct {
	target    string
	buildArgs []string
	platform  string
}

func (f *planFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.target, "target", "", "stage to build (default: the last)")
	fs.StringArrayVar(&f.buildArgs, "build-arg", nil, "NAME=VALUE for an ARG; NAME alone takes the environment's value")
	fs.StringVar(&f.platform, "platform", "", "OS/ARCH[/VARIANT] to build for; only the host's own")
}

func (f *planFlags) apply(env lookup, o *build.Options) error {
	o.Platform = hostPlatform()
	if _, err := buildArgs(f.buildArgs, env); err != nil {
		return err
	}
	return checkPlatform(f.platform)
}

// make parses the Dockerfile and sets what is to be done with it. After an error of the plan the linter is set all the
// same.
func (f *planFlags) make(in *input, o *build.Options, env lookup) (*instructions.File, error) {
	file, err := instructions.Parse(in.name, in.text)
	if err != nil {
		return nil, err
	}
	args, err := buildArgs(f.buildArgs, env)
	if err != nil {
		return nil, err
	}
	if syntax, err := file.CheckSyntax(args["BUILDKIT_SYNTAX"]); err != nil {
		return nil, err
	} else if syntax != nil {
		warn(o.Listener, file.WarningText(*syntax))
	}
	for _, w := range file.Warnings {
		warn(o.Listener, file.WarningText(w))
	}
	addProxies(args, env)
	options := plan.Options{Target: f.target, BuildArgs: args, Platform: o.Platform}
	if o.Lint, err = lint.New(file, args); err != nil {
		return nil, err
	}
	o.LintOptions = lint.Options{PlanOptions: options, Ignore: in.ignore}
	if o.Plan, err = plan.New(file, options); err != nil {
		return file, err
	}
	for _, name := range o.Plan.Unused {
		text := fmt.Sprintf("build argument %s: no ARG declares it", name)
		if match := instructions.Suggest(name, declaredArgs(file)); match != "" {
			text += " (did you mean " + match + "?)"
		}
		warn(o.Listener, text)
	}
	return file, nil
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

// addProxies passes the proxy variables of the environment on, as docker and buildah do. They reach the environment of
// RUN, and neither image nor key.
func addProxies(args map[string]string, env lookup) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"} {
		value, ok := env(name)
		if _, given := args[name]; ok && !given {
			args[name] = value
		}
	}
}

// buildArgs reads --build-arg. A name alone takes the value that the environment has, and is left out where there is
// none.
func buildArgs(list []string, env lookup) (map[string]string, error) {
	args := map[string]string{}
	for _, text := range list {
		key, value, ok := strings.Cut(text, "=")
		if key == "" {
			return nil, fmt.Errorf("--build-arg %q: want NAME=VALUE", text)
		}
		if !ok {
			if value, ok = env(key); !ok {
				continue
			}
		}
		args[key] = value
	}
	return args, nil
}

// hostPlatform is what builds are for.
func hostPlatform() ocispec.Platform {
	return ocispec.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}
}

// checkPlatform refuses a --platform that is not the host's own.
func checkPlatform(want string) error {
	host := hostPlatform()
	if want == "" || want == "local" {
		return nil
	}
	if p, ok := plan.ParsePlatform(want, host); !ok || plan.FormatPlatform(p) != plan.FormatPlatform(host) {
		return fmt.Errorf("--platform %q: this version of rbuild works for the host's own, %s", want, plan.FormatPlatform(host))
	}
	return nil
}
