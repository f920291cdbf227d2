package transfer

import (
	"fmt"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/shortnames"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"
)

// resolveShort returns the full names by which a name may be pulled, and a line of text that says
// why; the text may be "".
//
// If no registries.conf sets unqualified-search-registries, short names are searched on docker.io,
// as docker does. An empty list is respected: then short names need an alias.
func resolveShort(sys *types.SystemContext, name string) (*shortnames.Resolved, string, error) {
	resolved, err := shortnames.Resolve(sys, name)
	if err == nil {
		return resolved, resolved.Description(), nil
	}
	if said, confErr := sysregistriesv2.UnqualifiedSearchRegistries(sys); confErr != nil || said != nil {
		return nil, "", err
	}

	named, parseErr := reference.Parse(name)
	short, ok := named.(reference.Named)
	if parseErr != nil || !ok {
		return nil, "", err
	}
	if alias, _, aliasErr := sysregistriesv2.ResolveShortNameAlias(sys, short.Name()); aliasErr != nil || alias != nil {
		return nil, "", err
	}

	hub := *sys
	hub.PodmanOnlyShortNamesIgnoreRegistriesConfAndForceDockerHub = true
	resolved, err = shortnames.Resolve(&hub, name)
	if err != nil {
		return nil, "", err
	}

	return resolved, fmt.Sprintf("Resolving %q to docker.io (no unqualified-search registries are configured)", name), nil
}
