package plan

import (
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// FormatPlatform writes a platform as os/arch[/variant].
func FormatPlatform(p ocispec.Platform) string {
	out := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		out += "/" + p.Variant
	}
	return out
}

// ParsePlatform reads os/arch[/variant], os or arch; what is left out is
// host's.
func ParsePlatform(text string, host ocispec.Platform) (p ocispec.Platform, ok bool) {
	parts := strings.Split(strings.ToLower(text), "/")
	switch {
	case slices.ContainsFunc(parts, isNoPart) || len(parts) > 3:
		return p, false
	case len(parts) == 1 && (parts[0] == "linux" || parts[0] == "windows" || parts[0] == "darwin"):
		p.OS, p.Architecture, p.Variant = parts[0], host.Architecture, host.Variant
	case len(parts) == 1:
		p.OS, p.Architecture = host.OS, parts[0]
	default:
		p.OS, p.Architecture = parts[0], parts[1]
	}

	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return NormalizePlatform(p), true
}

// isNoPart tells whether text cannot be a part of a platform, by containerd's rule.
func isNoPart(text string) bool {
	return text == "" || strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != ""
}

// NormalizePlatform gives a platform its names as containerd does: x86_64 is
// amd64, aarch64 is arm64, arm alone is arm/v7, and the variants amd64/v1 and
// arm64/v8 are none.
func NormalizePlatform(p ocispec.Platform) ocispec.Platform {
	switch p.Architecture {
	case "i386":
		p.Architecture, p.Variant = "386", ""
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}

	switch v := p.Architecture + "/" + p.Variant; v {
	case "amd64/v1", "arm64/v8", "arm64/8":
		p.Variant = ""
	case "arm/":
		p.Variant = "v7"
	case "arm/5", "arm/6", "arm/7", "arm/8":
		p.Variant = "v" + p.Variant
	}

	return p
}

// setPlatform reads the expanded --platform of FROM.
func (s *Stage) setPlatform(text string) error {
	s.Platform = s.plan.options.Platform
	if text == "" {
		return nil
	}
	p, ok := ParsePlatform(text, s.plan.options.Host)
	if !ok {
		return fmt.Errorf("--platform=%s is not os/arch[/variant]", text)
	}
	s.Platform = p
	return nil
}

// wanted is Source.Platform of an image for p.
func (p *Plan) wanted(platform ocispec.Platform) string {
	name := FormatPlatform(NormalizePlatform(platform))
	if name == FormatPlatform(NormalizePlatform(p.options.Host)) {
		return ""
	}
	return name
}
