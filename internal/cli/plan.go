package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// planFlags choose the stages of the Dockerfile, the build arguments and the platform.
type planFlags struct {
	target     string
	buildArgs  []string
	argFiles   []string
	env        []string
	httpProxy  bool
	skipUnused bool
	mounts     []string
	from       string
	platform   PlatformFlags
}

func (f *planFlags) register(fs *pflag.FlagSet) {
	section(fs, SubjectInput, func(fs *pflag.FlagSet) {
		fs.StringVar(&f.target, "target", "", "Name of the stage to build, e.g. test (default: the last stage)")
		fs.StringArrayVar(&f.buildArgs, "build-arg", nil,
			"Value of an ARG as NAME=VALUE, e.g. VERSION=1.2; NAME alone takes the environment's value")
		fs.StringArrayVar(&f.argFiles, "build-arg-file", nil,
			"File with one NAME=VALUE for an ARG on each line, e.g. args.conf; --build-arg wins")
		fs.StringVar(&f.from, "from", "", "Image in place of the image of the first FROM, e.g. alpine:3")
		fs.BoolVar(&f.skipUnused, "skip-unused-stages", true,
			"Build only the stages that the target needs; false: all stages before it")
		f.platform.define(fs)
	})
	section(fs, SubjectRun, func(fs *pflag.FlagSet) {
		fs.StringArrayVar(&f.env, "env", nil,
			"Variable NAME=VALUE of RUN and of the image, e.g. LANG=C; NAME alone takes the environment's value")
		fs.BoolVar(&f.httpProxy, "http-proxy", true,
			"Pass the proxy variables of the environment to RUN, e.g. HTTPS_PROXY")
		fs.StringArrayVar(&f.mounts, "mount", nil,
			"Mount for every RUN, written as for RUN --mount, e.g. type=cache,target=/root/.cache")
	})
}

func (f *planFlags) parse(h *Host, b *spec.Build) (err error) {
	if err := (spec.Args{}).SetAll(f.buildArgs, h.Env, "--build-arg"); err != nil {
		return err
	}

	p := &b.Plan
	p.Target = f.target
	p.AllStages = !f.skipUnused
	p.From = f.from
	p.Host = h.Platform
	if p.Env, err = envVars(f.env, h.Environ); err != nil {
		return err
	}

	for _, text := range f.mounts {
		m, err := instructions.ParseMountFlag(text)
		if err != nil {
			return fmt.Errorf("--mount %q: %w", text, err)
		}
		p.Mounts = append(p.Mounts, m)
	}

	if p.Platform, err = f.platform.Wanted(h.Platform); err != nil {
		return err
	}
	p.PlatformGiven = f.platform.given()

	b.Arguments.List = f.buildArgs
	b.Arguments.Proxies = f.httpProxy
	for _, path := range f.argFiles {
		b.Arguments.Files = append(b.Arguments.Files, spec.File{Path: path, From: "--build-arg-file"})
	}
	return nil
}

// envVars reads --env by the rules of buildah. A text is NAME=VALUE, or NAME for the value that environ has, or the
// beginning of names followed by *, for example LC_*. Variables that environ does not have are left out.
func envVars(list, environ []string) (out []plan.EnvVar, err error) {
	for _, text := range list {
		name, value, ok := strings.Cut(text, "=")
		if name == "" {
			return nil, fmt.Errorf("--env %q: want NAME=VALUE or NAME", text)
		}
		if ok {
			out = append(out, plan.EnvVar{Key: name, Value: value})
			continue
		}

		beginning, several := strings.CutSuffix(name, "*")
		for _, kv := range environ {
			key, value, _ := strings.Cut(kv, "=")
			if key == name || several && key != "" && strings.HasPrefix(key, beginning) {
				out = append(out, plan.EnvVar{Key: key, Value: value, Literal: true})
			}
		}
	}

	return out, nil
}

// PlatformFlags choose a platform. Commands build and pull have these flags.
type PlatformFlags struct {
	platforms []string
	os        string
	arch      string
	variant   string
}

// Register defines the flags.
func (f *PlatformFlags) Register(fs *pflag.FlagSet) { section(fs, SubjectInput, f.define) }

func (f *PlatformFlags) define(fs *pflag.FlagSet) {
	fs.StringSliceVar(&f.platforms, "platform", nil,
		"Platform of the image as OS/ARCH[/VARIANT], e.g. linux/arm64 (default: the host's)")
	fs.StringVar(&f.os, "os", "", "Operating system of the image, e.g. linux")
	fs.StringVar(&f.arch, "arch", "", "Architecture of the image, e.g. arm64")
	fs.StringVar(&f.variant, "variant", "", "Variant of the architecture, e.g. v7")
}

func (f *PlatformFlags) given() bool {
	return len(f.platforms) > 0 || f.os != "" || f.arch != "" || f.variant != ""
}

// Given returns the platform that the flags name. It is the zero value if no flag is given.
func (f *PlatformFlags) Given(host ocispec.Platform) (ocispec.Platform, error) {
	p, err := f.Wanted(host)
	if err != nil || !f.given() {
		return ocispec.Platform{}, err
	}
	return p, nil
}

// Wanted returns the platform that the flags name; fields that no flag names are the host's.
func (f *PlatformFlags) Wanted(host ocispec.Platform) (p ocispec.Platform, err error) {
	parts := f.os != "" || f.arch != "" || f.variant != ""
	switch {
	case len(f.platforms) > 1:
		return p, fmt.Errorf("--platform %s: one platform at a time; this version of rbuild makes no lists of images",
			strings.Join(f.platforms, ","))
	case len(f.platforms) == 1 && parts:
		return p, errors.New("--platform says what --os, --arch and --variant say: give it alone")
	case len(f.platforms) == 1 && f.platforms[0] != "local":
		p, ok := plan.ParsePlatform(f.platforms[0], host)
		if !ok {
			return p, fmt.Errorf("--platform %q: want OS/ARCH[/VARIANT]", f.platforms[0])
		}
		return p, nil
	}

	p = host
	if f.os != "" {
		p.OS = f.os
	}
	if f.arch != "" {
		p.Architecture = f.arch
		p.Variant = ""
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
