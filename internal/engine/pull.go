package engine

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/imagename"
	"codeberg.org/rbuild/rbuild/internal/record"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// puller brings base images to the place where a build keeps images. It is safe for concurrent use.
type puller struct {
	build *build
	found sync.Map // names and IDs as pulledImage -> full name
}

// pulledImage is an image by the name that the Dockerfile gives it.
type pulledImage struct{ name, id string }

// origin returns the full name and the digest of an image that pull has returned.
func (p *puller) origin(name, id string) record.Base {
	full, _ := p.found.Load(pulledImage{name, id})
	found, _ := full.(string)
	return record.Base{Name: found, Digest: p.build.images.Digest(id, found)}
}

// options returns how registries are reached for images of a platform, as plan.Source has it.
func (p *puller) options(platform string) (transfer.Options, error) {
	o, err := Access(p.build.engine.RegistryOptions(), p.build.spec.Pull.Access)
	if err != nil {
		return o, err
	}
	o.Report = p.build.notices
	if platform != "" {
		o.Platform, _ = plan.ParsePlatform(platform, p.build.spec.Plan.Host)
	}
	return o, nil
}

// pull returns the ID of the image that the Dockerfile or the spec gives this name.
func (p *puller) pull(ctx context.Context, name, platform string) (string, error) {
	o, err := p.options(platform)
	if err != nil {
		return "", err
	}

	n, err := imagename.Parse(name)
	switch {
	case err != nil:
		return "", err
	case n.InFiles() && name == p.build.spec.Plan.From:
		return p.build.images.Load(ctx, name, o)
	case n.InFiles():
		return p.load(ctx, n, name, o)
	case n.Transport == imagename.Store:
		return "", fmt.Errorf("%s: an image in a Dockerfile is a name; pull it first with rbuild pull, "+
			"and use the name", name)
	}

	policy := p.build.spec.Pull.Policy
	if policy == "" {
		policy = transfer.PullMissing
	}
	id, found, err := p.build.images.Pull(ctx, name, policy, o)
	if err != nil {
		return "", err
	}
	if found != id {
		p.found.Store(pulledImage{name, id}, found)
	}
	return id, nil
}

// load reads an image that the Dockerfile names by its transport, if the file may be read. The image is read through the
// descriptor of the file that was checked, wherever the path leads by then.
func (p *puller) load(ctx context.Context, n imagename.Name, name string, o transfer.Options) (string, error) {
	path, which := n.Path()
	file, err := openPath(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	defer file.Close()
	if err := p.mayRead(file); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}

	pinned := descriptorPath(file)
	id, err := p.build.images.Load(ctx, n.Transport+":"+pinned+which, o)
	if err != nil {
		return "", &pinnedError{err, pinned, path}
	}
	return id, nil
}

// mayRead refuses a file that is not at or below an allowed path. Real paths are compared: all links are followed.
func (p *puller) mayRead(file *os.File) error {
	allow := p.build.spec.Allow
	real, err := os.Readlink(descriptorPath(file))
	if err != nil {
		return err
	}

	for _, allowed := range allow.Read {
		if allowed == "*" {
			return nil
		}
		base, err := realPath(allowed)
		if err != nil {
			return fmt.Errorf("%s%s: %w", allow.ReadFrom, allowed, err)
		}
		if real == base || strings.HasPrefix(real, strings.TrimSuffix(base, "/")+"/") {
			return nil
		}
	}

	return fmt.Errorf("%s is refused: it is not at or below %s (allow it with %s%s)",
		real, strings.Join(allow.Read, ", "), allow.ReadFrom, real)
}

func realPath(path string) (string, error) {
	f, err := openPath(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return os.Readlink(descriptorPath(f))
}

// pinnedError is an error that names a file as the user does.
type pinnedError struct {
	error
	pinned, path string
}

func (e *pinnedError) Error() string { return strings.ReplaceAll(e.error.Error(), e.pinned, e.path) }
func (e *pinnedError) Unwrap() error { return e.error }

// layout reads an image of an OCI layout: DIR[:TAG|@DIGEST].
func (p *puller) layout(ctx context.Context, location, platform string) (string, error) {
	o, err := p.options(platform)
	if err != nil {
		return "", err
	}

	dir, which, pinned := strings.Cut(location, "@")
	if name, tag, ok := strings.Cut(dir, ":"); ok {
		dir = name
		if !pinned {
			which = tag
		}
	}
	return p.build.images.LoadLayout(ctx, dir, which, o)
}
