package transfer

import (
	"encoding/json"
	"fmt"
	"slices"

	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/types"
)

// Sources say which registries may be used. The zero value allows all registries. Names are
// host[:port] as in full names of images, for example "registry.example:5000".
type Sources struct {
	Insecure []string `json:"insecureRegistries"` // TLS is not verified
	Blocked  []string `json:"blockedRegistries"`  // refused
	Allowed  []string `json:"allowedRegistries"`  // if not empty, all other registries are refused
}

// ParseSources reads the JSON document of $BUILD_REGISTRY_SOURCES, which OpenShift gives to builds.
// An empty text allows all registries.
func ParseSources(text string) (s Sources, err error) {
	if text == "" {
		return s, nil
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return s, fmt.Errorf("want a JSON object with lists insecureRegistries, blockedRegistries and allowedRegistries: %w", err)
	}
	return s, nil
}

// admit refuses an image in a registry that may not be used, and returns the settings for the
// registry.
func (s Sources) admit(sys *types.SystemContext, ref types.ImageReference) (*types.SystemContext, error) {
	if ref.Transport().Name() != docker.Transport.Name() {
		return sys, nil
	}

	name := ref.DockerReference()
	host := reference.Domain(name)
	switch {
	case slices.Contains(s.Blocked, host):
		return nil, fmt.Errorf("%s: BUILD_REGISTRY_SOURCES blocks the registry %s", name, host)
	case len(s.Allowed) > 0 && !slices.Contains(s.Allowed, host):
		return nil, fmt.Errorf("%s: BUILD_REGISTRY_SOURCES does not allow the registry %s", name, host)
	case !slices.Contains(s.Insecure, host):
		return sys, nil
	case sys.DockerInsecureSkipTLSVerify == types.OptionalBoolFalse:
		return nil, fmt.Errorf("%s: BUILD_REGISTRY_SOURCES says that the registry %s is insecure, which --tls-verify forbids", name, host)
	}

	open := *sys
	open.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
	return &open, nil
}
