package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/copier"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/imagename"
	"codeberg.org/rbuild/rbuild/internal/source"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// contextFlags are the named contexts.
type contextFlags struct {
	list []string

	contexts map[string]string // name, as plan.ContextName gives it, -> where it is
}

// imageSchemes say that a named context is an image: docker's word and buildah's.
var imageSchemes = []string{"docker-image://", "container-image://", "docker://"}

const layoutScheme = "oci-layout://"

func (f *contextFlags) register(fs *pflag.FlagSet) {
	fs.StringArrayVar(&f.list, "build-context", nil, "NAME=VALUE for FROM, --from and mounts: a directory, docker-image://IMAGE, oci-layout://DIR[:TAG|@DIGEST], a git URL or that of a tar")
}

func (f *contextFlags) apply(lookup, *builder.Options) error {
	f.contexts = map[string]string{}
	for _, text := range f.list {
		name, value, ok := strings.Cut(text, "=")
		if !ok || value == "" {
			return fmt.Errorf("--build-context %q: want NAME=VALUE", text)
		}

		name, err := plan.ContextName(name, hostPlatform())
		if err != nil {
			return fmt.Errorf("--build-context %q: %w", text, err)
		}
		if _, ok := f.contexts[name]; ok {
			return fmt.Errorf("--build-context %q: there is another of this name", text)
		}
		if err := checkContext(value); err != nil {
			return fmt.Errorf("--build-context %q: %w", text, err)
		}
		f.contexts[name] = value
	}

	return nil
}

// checkContext refuses what can be known to be wrong without looking.
func checkContext(value string) error {
	scheme, rest, ok := strings.Cut(value, "://")
	switch {
	case !ok || source.IsContext(value):
		return nil
	case scheme+"://" != layoutScheme && !slices.Contains(imageSchemes, scheme+"://"):
		return fmt.Errorf("unknown kind %s://: want a directory, docker-image://, oci-layout://, a git URL, http:// or https://", scheme)
	case rest == "":
		return errors.New("nothing is named")
	case scheme+"://" == layoutScheme:
		return nil
	}

	if n, err := imagename.Parse(rest); err != nil || n.Transport != "" {
		return errors.New("want the name of an image")
	}
	return nil
}

func (f *contextFlags) names() []string {
	var names []string
	for name := range f.contexts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// namedContexts opens named contexts and has what they hold.
type namedContexts struct {
	imagePlace
	pull *imagePuller
	elsewhere

	mu   sync.Mutex
	held []func() error
}

// openers are for build.Options.
func (n *namedContexts) openers(f *contextFlags) map[string]builder.OpenContext {
	out := map[string]builder.OpenContext{}
	for name, value := range f.contexts {
		out[name] = func(ctx context.Context, platform string) (builder.NamedContext, error) {
			return n.open(ctx, value, platform)
		}
	}
	return out
}

// open opens a named context.
func (n *namedContexts) open(ctx context.Context, value, platform string) (nc builder.NamedContext, err error) {
	for _, scheme := range imageSchemes {
		if ref, ok := strings.CutPrefix(value, scheme); ok {
			if ref != "scratch" {
				nc.Name = ref
				nc.Image, err = n.pull.pull(ctx, ref, platform)
			}
			return nc, err
		}
	}

	if place, ok := strings.CutPrefix(value, layoutScheme); ok {
		nc.Image, err = n.pull.layout(ctx, place, platform)
		return nc, err
	}

	dir := value
	if isElsewhere(value) {
		if dir, err = n.fetch(ctx, value); err != nil {
			return nc, err
		}
	}

	patterns, _, err := copier.ReadIgnore(dir, copier.Dockerfile{})
	if bad := (*copier.IgnoreError)(nil); dir != value && errors.As(err, &bad) {
		return nc, unpacked(instructions.Redact(value), bad)
	}

	if err == nil {
		nc.Tree, err = copier.OpenContext(dir, patterns)
	}
	if err == nil {
		n.hold(nc.Tree.Close)
	}

	return nc, err
}

// fetch brings a context that lies elsewhere into a directory.
func (n *namedContexts) fetch(ctx context.Context, value string) (string, error) {
	dir, release, err := n.NewScratch()
	if err != nil {
		return "", err
	}

	n.hold(release)
	c, err := n.access.Context(ctx, value, dir, n.options)
	if err != nil {
		return "", err
	}

	for _, w := range c.Warnings {
		n.warn(w)
	}
	if c.Dir == "" {
		return "", errors.New("what is at the URL is no archive")
	}
	return c.Dir, nil
}

func (n *namedContexts) hold(release func() error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held = append(n.held, release)
}

func (n *namedContexts) close() error {
	var errs []error
	for _, release := range slices.Backward(n.held) {
		errs = append(errs, release())
	}
	return errors.Join(errs...)
}
