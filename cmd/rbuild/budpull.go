package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/imagename"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// pullFlags say where base images come from.
type pullFlags struct {
	policy string
	always bool // --pull-always
	never  bool // --pull-never
	access accessFlags
	retry  retryFlags
	flags  *pflag.FlagSet
}

func (f *pullFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.policy, "pull", "missing", "when to pull base images: always, missing, never or newer")
	fs.Lookup("pull").NoOptDefVal = "always"
	fs.BoolVar(&f.always, "pull-always", false, "same as --pull=always")
	fs.BoolVar(&f.never, "pull-never", false, "same as --pull=never")
	for _, name := range []string{"pull-always", "pull-never"} { // as in buildah, where they are older than --pull=POLICY
		_ = fs.MarkHidden(name) // the flag was defined above
	}
	f.flags = fs
	f.access.register(fs)
	f.retry.register(fs)
}

func (f *pullFlags) apply(lookup, *builder.Options) error {
	if _, err := f.pullPolicy(); err != nil {
		return err
	}
	return f.retry.check()
}

// registry is how registries are reached, for pulls and pushes; report gets to know of them, if it is not nil.
func (f *pullFlags) registry(base transfer.Options, report io.Writer) (transfer.Options, error) {
	o, err := f.access.apply(base)
	o.Report = report
	return f.retry.apply(o), err
}

// pullPolicy is what --pull and its older forms say.
func (f *pullFlags) pullPolicy() (transfer.Policy, error) {
	given := 0
	for _, name := range []string{"pull", "pull-always", "pull-never"} {
		if f.flags.Changed(name) {
			given++
		}
	}

	switch {
	case given > 1:
		return "", errors.New("--pull, --pull-always and --pull-never exclude each other: give one of them")
	case f.always:
		return transfer.PullAlways, nil
	case f.never:
		return transfer.PullNever, nil
	}

	return parsePull(f.policy)
}

// parsePull reads --pull, with the words of docker beside podman's.
func parsePull(text string) (transfer.Policy, error) {
	switch text {
	case "true":
		return transfer.PullAlways, nil
	case "false":
		return transfer.PullMissing, nil
	}
	policy, err := transfer.ParsePolicy(text)
	if err != nil {
		return "", fmt.Errorf("--pull: %w", err)
	}
	return policy, nil
}

// imagePuller brings images into the store.
type imagePuller struct {
	flags  *pullFlags
	base   transfer.Options
	allow  *allowFlags
	from   string // --from, which the user has named himself
	place  imagePlace
	report io.Writer // gets to know of it; nil: nobody does

	found sync.Map // names and IDs as pulledImage -> full name
}

// pulledImage is an image by the name that was asked for.
type pulledImage struct{ name, id string }

// origin is build.Options.Origin.
func (p *imagePuller) origin(name, id string) builder.Base {
	full, _ := p.found.Load(pulledImage{name, id})
	found, _ := full.(string)
	return builder.Base{Name: found, Digest: p.place.Digest(id, found)}
}

// options are those for a platform, as plan.Source has it.
func (p *imagePuller) options(platform string) (transfer.Options, error) {
	o, err := p.flags.registry(p.base, p.report)
	if platform != "" {
		o.Platform, _ = plan.ParsePlatform(platform, hostPlatform())
	}
	return o, err
}

// pull pulls an image by the name that the Dockerfile or a flag gives it.
func (p *imagePuller) pull(ctx context.Context, name, platform string) (string, error) {
	o, err := p.options(platform)
	if err != nil {
		return "", err
	}

	n, err := imagename.Parse(name)
	if err != nil {
		return "", err
	}
	if n.InFiles() {
		if name == p.from {
			return p.place.Load(ctx, name, o)
		}
		return p.allow.load(ctx, p.place, name, o)
	}
	if n.Transport == imagename.Store {
		return "", fmt.Errorf("%s: an image in a Dockerfile is a name; pull it first with rbuild pull, and use the name", name)
	}

	policy, err := p.flags.pullPolicy()
	if err != nil {
		return "", err
	}

	id, found, err := p.place.Pull(ctx, name, policy, o)
	if err == nil && found != id {
		p.found.Store(pulledImage{name, id}, found)
	}

	return id, err
}

// layout reads an image of an OCI layout: DIR[:TAG|@DIGEST].
func (p *imagePuller) layout(ctx context.Context, place, platform string) (string, error) {
	o, err := p.options(platform)
	if err != nil {
		return "", err
	}

	dir, which, pinned := strings.Cut(place, "@")
	if name, tag, ok := strings.Cut(dir, ":"); ok {
		dir = name
		if !pinned {
			which = tag
		}
	}

	return p.place.LoadLayout(ctx, dir, which, o)
}
