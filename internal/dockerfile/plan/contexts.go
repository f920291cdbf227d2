package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"
)

// platformSign separates the name of a context from the platform that it is for.
const platformSign = "::"

// ContextName gives a name of --build-context, NAME or NAME::PLATFORM, the form
// by which it is looked up: that of an image, short, without :latest and in
// lower case. Names that mean something else already are refused.
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
	return name + platformSign + FormatPlatform(p), nil
}

func contextName(text string) string {
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil { // a capital letter, as stages may be named with
		text = strings.ToLower(text)
		named, err = reference.ParseNormalizedNamed(text)
	}
	if err != nil {
		return text
	}
	return strings.TrimSuffix(reference.FamiliarString(named), ":latest")
}

// context is the named context that a name means for a platform, or an empty
// string.
func (p *Plan) context(name string, platform ocispec.Platform) string {
	if len(p.options.Contexts) == 0 {
		return ""
	}

	name = contextName(name)
	p.mu.Lock()
	defer p.mu.Unlock()

	for _, want := range []string{name + platformSign + FormatPlatform(NormalizePlatform(platform)), name} {
		if slices.Contains(p.options.Contexts, want) {
			p.used[want] = true
			return want
		}
	}

	return ""
}

func (p *Plan) unusedContexts() (out []string) {
	for _, name := range p.options.Contexts {
		if !p.used[name] {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
