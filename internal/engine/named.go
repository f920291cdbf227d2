package engine

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/copier"
	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// namedContexts opens the named contexts of a build. It is safe for concurrent use.
type namedContexts struct {
	build  *build
	puller *puller
	remote remote

	mu   sync.Mutex
	held []func() error // called by close
}

func contextNames(contexts map[string]string) []string {
	return slices.Sorted(maps.Keys(contexts))
}

// openers returns a function for each context that opens it.
func (n *namedContexts) openers() map[string]builder.OpenContext {
	out := map[string]builder.OpenContext{}
	for name, location := range n.build.spec.Plan.Contexts {
		out[name] = func(ctx context.Context, platform string) (builder.NamedContext, error) {
			return n.open(ctx, location, platform)
		}
	}
	return out
}

// open opens the context at a location: an image, a directory, a git repository or a URL.
func (n *namedContexts) open(ctx context.Context, location, platform string) (nc builder.NamedContext, err error) {
	for _, scheme := range spec.ImageSchemes() {
		ref, ok := strings.CutPrefix(location, scheme)
		if !ok {
			continue
		}
		if ref == "scratch" {
			return nc, nil
		}
		nc.Name = ref
		nc.Image, err = n.puller.pull(ctx, ref, platform)
		return nc, err
	}

	if dir, ok := strings.CutPrefix(location, spec.LayoutScheme); ok {
		nc.Image, err = n.puller.layout(ctx, dir, platform)
		return nc, err
	}

	dir := location
	if isRemote(location) {
		if dir, err = n.fetch(ctx, location); err != nil {
			return nc, err
		}
	}

	patterns, _, err := copier.ReadIgnore(dir, copier.Dockerfile{})
	if bad := (*copier.IgnoreError)(nil); dir != location && errors.As(err, &bad) {
		return nc, unpacked(instructions.Redact(location), bad)
	}
	if err != nil {
		return nc, err
	}

	if nc.Tree, err = copier.OpenContext(dir, patterns); err != nil {
		return nc, err
	}
	n.hold(nc.Tree.Close)
	return nc, nil
}

// fetch brings a context to a directory of the build.
func (n *namedContexts) fetch(ctx context.Context, location string) (string, error) {
	dir, release, err := n.build.images.NewScratch()
	if err != nil {
		return "", err
	}

	n.hold(release)
	c, err := n.remote.access.Context(ctx, location, dir, n.remote.options)
	if err != nil {
		return "", err
	}

	for _, w := range c.Warnings {
		warn(n.build.log, w)
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

// close closes all contexts and removes those that were fetched.
func (n *namedContexts) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, release := range slices.Backward(n.held) {
		errs = append(errs, release())
	}
	return errors.Join(errs...)
}
