package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// systems are the operating systems that may be written alone, for example --platform=linux. Any
// other single word is an architecture.
var systems = []string{"linux", "windows", "darwin"}

// ParsePlatform reads a platform as users write it: OS/ARCH[/VARIANT], OS or ARCH, for example
// linux/arm/v7, linux or aarch64. Parts that text omits are the host's. Case does not matter. The
// result has containerd's names: aarch64 is arm64, arm is arm/v7. ok reports whether text is a
// platform; OS versions, as in windows(10.0)/amd64, are not accepted.
func ParsePlatform(text string, host ocispec.Platform) (p ocispec.Platform, ok bool) {
	text = strings.ToLower(text)
	if !strings.Contains(text, "/") {
		if slices.Contains(systems, text) {
			p = ocispec.Platform{OS: text, Architecture: host.Architecture, Variant: host.Variant}
			return platforms.Normalize(p), true
		}
		text = host.OS + "/" + text
	}

	p, err := platforms.Parse(text)
	if err != nil || strings.Contains(text, "(") {
		return ocispec.Platform{}, false
	}
	return platforms.Normalize(p), true
}

// platform reads the expanded --platform of FROM. Without the flag a stage is made for the platform
// of Options.
func (p *planner) platform(text string) (ocispec.Platform, error) {
	if text == "" {
		return p.options.Platform, nil
	}
	platform, ok := ParsePlatform(text, p.options.Host)
	if !ok {
		return p.options.Platform, fmt.Errorf("--platform=%s is not os/arch[/variant]", text)
	}
	return platform, nil
}

// imagePlatform returns Source.Platform of an image that is wanted for platform.
func (p *Plan) imagePlatform(platform ocispec.Platform) string {
	name := formatPlatform(platform)
	if name == formatPlatform(p.options.Host) {
		return ""
	}
	return name
}

// formatPlatform writes a platform with containerd's names, for example linux/arm64.
func formatPlatform(p ocispec.Platform) string { return platforms.Format(platforms.Normalize(p)) }
