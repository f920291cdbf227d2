package registry

import (
	"context"
	"fmt"
	"strings"

	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/shortnames"
)

// maxTags bounds how many tags of a repository are pulled at once.
const maxTags = 10000

// Tags asks a registry for the tags of the repository name, and returns its images as full names. A short name stands for
// the first repository that answers, in the order of Pull. A name with a tag, a digest or another transport than docker://
// is refused.
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
	resolved, err := shortnames.Resolve(sys, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
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

// tagsOf lists the images of one repository.
func (p puller) tagsOf(ctx context.Context, repository reference.Named) (names []string, err error) {
	ref, err := p.registryReference(reference.TagNameOnly(repository))
	if err != nil {
		return nil, err
	}
	sys, err := p.o.Sources.admit(p.sys, ref)
	if err != nil {
		return nil, err
	}
	var tags []string
	err = p.o.withRetry(ctx, repository.String(), func() (err error) {
		tags, err = docker.GetRepositoryTags(ctx, sys, ref)
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
