package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"
)

// platformSign separates the name of a context from the platform of the context:
// alpine::linux/arm64.
const platformSign = "::"

// ContextName converts a name of --build-context, NAME or NAME::PLATFORM, to the form of
// Options.Contexts: the short name of an image, in lower case, without :latest. For example,
// docker.io/library/Alpine:latest becomes alpine. PLATFORM is read by ParsePlatform. The names
// scratch and context are refused, because they have another meaning in a Dockerfile.
func ContextName(text string, host ocispec.Platform) (string, error) {
	name, platform, suffixed := strings.Cut(text, platformSign)
	name = contextName(name)
	switch name {
	case "":
		return "", errors.New("a named context needs a name")
	case scratch, "context":
		return "", fmt.Errorf("%s is no name for a context: it means something else", name)
	}

	if !suffixed {
		return name, nil
	}

	p, ok := ParsePlatform(platform, host)
	if !ok {
		return "", fmt.Errorf("%s is not os/arch[/variant]", platform)
	}
	return name + platformSign + formatPlatform(p), nil
}

func contextName(text string) string {
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil { // names of stages may have capital letters
		text = strings.ToLower(text)
		named, err = reference.ParseNormalizedNamed(text)
	}
	if err != nil {
		return text
	}
	return strings.TrimSuffix(reference.FamiliarString(named), ":latest")
}

// context returns the element of Options.Contexts that a name selects for a platform, or an empty
// string. The element for the platform, alpine::linux/arm64, wins over the element for every
// platform, alpine.
func (p *Plan) context(name string, platform ocispec.Platform) string {
	if len(p.options.Contexts) == 0 {
		return ""
	}

	name = contextName(name)
	for _, want := range []string{name + platformSign + formatPlatform(platform), name} {
		if slices.Contains(p.options.Contexts, want) {
			return want
		}
	}
	return ""
}
