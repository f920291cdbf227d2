package transfer

import (
	"context"
	"fmt"
	"strings"

	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"
)

// maxTags bounds the tags of a repository that --all-tags pulls.
const maxTags = 10000

// Tags asks a registry for the tags of a repository, and returns full names such as
// "docker.io/library/alpine:3". A short name means the first repository that answers, in the order
// of Pull. A name with a tag, a digest or another transport than docker:// is refused.
func Tags(ctx context.Context, name string, o Options) ([]string, error) {
	sys, err := o.systemContext()
	if err != nil {
		return nil, err
	}

	t, rest, err := transport(name)
	if err != nil {
		return nil, err
	}

	if t != nil {
		if t.Name() != docker.Transport.Name() {
			return nil, fmt.Errorf("%s: only repositories of a registry have tags to list", name)
		}
		name = strings.TrimPrefix(rest, "//")
	}

	if err := isRepository(name); err != nil {
		return nil, err
	}

	resolved, text, err := resolveShort(sys, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}

	if text != "" {
		o.say("%s", text)
	}

	p := puller{sys: sys, o: o}
	var failures []error
	for _, candidate := range resolved.PullCandidates {
		names, err := p.tagsOf(ctx, reference.TrimNamed(candidate.Value))
		if err == nil {
			return names, nil
		}
		if failures = append(failures, err); ctx.Err() != nil {
			break
		}
	}

	if len(failures) == 1 {
		return nil, failures[0]
	}

	return nil, resolved.FormatPullErrors(failures)
}

// isRepository refuses a name that has a tag or a digest.
func isRepository(name string) error {
	ref, err := reference.Parse(name)
	if err != nil {
		return fmt.Errorf("%q is not the name of a repository: %w", name, err)
	}
	named, ok := ref.(reference.Named)
	if !ok || !reference.IsNameOnly(named) {
		return fmt.Errorf("%q has a tag or a digest: name the repository alone", name)
	}
	return nil
}

// tagsOf lists the images of a repository.
func (p puller) tagsOf(ctx context.Context, repository reference.Named) (names []string, err error) {
	var tags []string
	err = p.o.withRetry(ctx, repository.String(), func() (err error) {
		tags, err = p.listTags(ctx, repository)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing the tags of %s: %w", repository, plainError(err))
	}
	if len(tags) == 0 || len(tags) > maxTags {
		return nil, fmt.Errorf("%s has %d tags: want 1 to %d", repository, len(tags), maxTags)
	}

	for _, tag := range tags {
		named, err := reference.WithTag(repository, tag)
		if err != nil {
			return nil, fmt.Errorf("%s: tag %q: %w", repository, tag, err)
		}
		names = append(names, named.String())
	}

	return names, nil
}

// listTags asks the mirrors and the registry of registries.conf, in the order of the file. The
// library's call for tags asks only the registry of the name.
func (p puller) listTags(ctx context.Context, repository reference.Named) ([]string, error) {
	named := reference.TagNameOnly(repository)
	if _, err := p.registryReference(named); err != nil {
		return nil, err
	}

	sources := []sysregistriesv2.PullSource{{Reference: named}}
	configured, err := sysregistriesv2.FindRegistry(p.sys, repository.Name())
	if err != nil {
		return nil, fmt.Errorf("reading registries.conf: %w", err)
	}

	if configured != nil {
		if sources, err = configured.PullSourcesFromReference(named); err != nil {
			return nil, fmt.Errorf("reading registries.conf: %w", err)
		}
	}

	for _, s := range sources {
		var tags []string
		if tags, err = p.tagsAt(ctx, named, s); err == nil || ctx.Err() != nil {
			return tags, err
		}
	}

	return nil, err
}

// tagsAt asks a mirror or registry for the tags of the repository of named.
func (p puller) tagsAt(ctx context.Context, named reference.Named, at sysregistriesv2.PullSource) (tags []string, err error) {
	ref, err := docker.NewReference(named)
	if err != nil {
		return nil, err
	}

	sys, err := p.o.Sources.admit(p.sys, ref)
	if err != nil {
		return nil, err
	}
	if ref, err = docker.NewReference(at.Reference); err != nil {
		return nil, err
	}

	if at.Endpoint.Insecure && sys.DockerInsecureSkipTLSVerify == types.OptionalBoolUndefined {
		own := *sys
		own.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
		sys = &own
	}

	err = p.o.watched(ctx, func(ctx context.Context, _ chan types.ProgressProperties) (err error) {
		tags, err = docker.GetRepositoryTags(ctx, sys, ref)
		return err
	})

	return tags, err
}
