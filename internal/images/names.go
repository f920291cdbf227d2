package images

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/shortnames"
	"go.podman.io/image/v5/types"

	"codeberg.org/rbuild/rbuild/internal/imagename"
)

// Names says which configuration turns a short name such as "alpine" into full names. The zero
// value reads the files of containers-registries.conf(5).
type Names struct {
	RegistriesConf    string // file to read instead of registries.conf
	RegistriesConfDir string // directory to read instead of registries.conf.d
	ShortNameAliases  string // file for recorded short names instead of the user's; the file need not exist
}

// minIDPrefix is the shortest beginning of an ID that Lookup accepts, as in the containers-storage
// transport.
const minIDPrefix = 3

var hexDigits = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[0-9a-f]+$`)
})

// Hinted adds a hint to an error about a name such as "dir:out": the directory is written
// "dir:./out".
func Hinted(err error, name string) error {
	if hint := imagename.Hint(name); err != nil && hint != "" {
		return fmt.Errorf("%w (%s)", err, hint)
	}
	return err
}

// Resolve finds the image of s that name means where an image is a base or is copied from: by the
// name alone. Resolve tries, as podman does, aliases, localhost/, the unqualified-search registries
// and docker.io/library/, in this order. The tag is latest if name has no tag, and is ignored
// beside a digest. A complete ID (64 hexadecimal digits, with or without "sha256:") is accepted, a
// part of an ID is not: FROM b is not the image whose ID begins with b.
//
// Resolve returns the image, and the full name by which it was found, or the ID. The error wraps
// [ErrNotFound] if no image matches.
func Resolve(s Store, name string, n Names) (img Image, found string, err error) {
	parsed, err := imagename.Parse(name)
	if err != nil {
		return Image{}, "", err
	}
	if parsed.Transport != "" && parsed.Transport != imagename.Store {
		return Image{}, "", fmt.Errorf("%s: not a name of the store: %w", name, ErrNotFound)
	}

	img, found, err = ResolvePlain(s, parsed.Rest, n)
	return img, found, Hinted(err, name)
}

// ResolvePlain is [Resolve] for a name that is known to have no transport.
func ResolvePlain(s Store, name string, n Names) (img Image, found string, err error) {
	if id, ok := CompleteID(name); ok {
		img, err := s.ResolveImage(id)
		return img, img.ID, err
	}

	candidates, err := n.Candidates(name)
	if err != nil {
		return Image{}, "", err
	}

	for _, candidate := range candidates {
		img, err := s.ResolveImage(candidate.String())
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return Image{}, "", err
		}
		return img, candidate.String(), nil
	}

	return Image{}, "", fmt.Errorf("%s: %w", name, ErrNotFound)
}

// Lookup is [Resolve] for commands about an image that exists, such as inspect, tag and push. If no
// name matches, Lookup also accepts the beginning of exactly one ID, of at least three digits.
func Lookup(s Store, name string, n Names) (img Image, found string, err error) {
	img, found, err = Resolve(s, name, n)
	if err == nil || !errors.Is(err, ErrNotFound) {
		return img, found, err
	}

	if len(name) >= minIDPrefix && hexDigits().MatchString(name) {
		byPrefix, idErr := s.ResolveImage(name)
		if idErr == nil {
			return byPrefix, byPrefix.ID, nil
		}
	}
	return Image{}, "", err
}

// CompleteID returns the 64 digits of a name that is a complete ID: "DIGITS", "sha256:DIGITS" or
// "@DIGITS".
func CompleteID(name string) (id string, ok bool) {
	id = strings.TrimPrefix(strings.TrimPrefix(name, "@"), "sha256:")
	return id, reference.IsFullIdentifier(id)
}

// Candidates returns the full names that a name may stand for in a Store, the most likely first.
func (n Names) Candidates(name string) ([]reference.Named, error) {
	name, err := DropTagBesideDigest(name)
	if err != nil {
		return nil, err
	}

	candidates, err := shortnames.ResolveLocally(&types.SystemContext{
		SystemRegistriesConfPath:    n.RegistriesConf,
		SystemRegistriesConfDirPath: n.RegistriesConfDir,
		UserShortNameAliasConfPath:  n.ShortNameAliases,
	}, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}

	if named, err := reference.ParseDockerRef(name); err == nil {
		candidates = append(candidates, named)
	}
	return candidates, nil
}

// DropTagBesideDigest turns name:tag@digest into name@digest, because the digest alone identifies
// the image.
func DropTagBesideDigest(name string) (string, error) {
	named, err := parseNamed(name)
	if err != nil {
		return "", err
	}

	digested, ok := named.(reference.Digested)
	if !ok {
		return name, nil
	}

	pinned, err := reference.WithDigest(reference.TrimNamed(named), digested.Digest())
	if err != nil {
		return "", fmt.Errorf("%q is not the name of an image: %w", name, err)
	}
	return pinned.String(), nil
}

// parseNamed parses a name, which may be short.
func parseNamed(name string) (reference.Named, error) {
	ref, err := reference.Parse(name)
	if err != nil {
		return nil, fmt.Errorf("%q is not the name of an image: %w", name, err)
	}
	named, ok := ref.(reference.Named)
	if !ok {
		return nil, fmt.Errorf("%q is not the name of an image", name)
	}
	return named, nil
}

// NormalizeTag returns the full name that an image gets by rbuild tag IMAGE name: a name without a
// registry goes below localhost/, a name without a tag gets ":latest". A digest is refused, because
// it follows from the content, and so is a place outside the store, such as "oci:/path".
func NormalizeTag(name string) (reference.NamedTagged, error) {
	n, err := imagename.Parse(name)
	if err != nil {
		return nil, err
	}
	if n.Transport != "" && n.Transport != imagename.Store {
		return nil, fmt.Errorf("%q names a place outside the store, not an image", name)
	}
	return NormalizePlainTag(n.Rest)
}

// NormalizePlainTag is [NormalizeTag] for a name that is known to have no transport.
func NormalizePlainTag(name string) (reference.NamedTagged, error) {
	named, err := parseNamed(name)
	if err != nil {
		return nil, err
	}
	if _, ok := named.(reference.Digested); ok {
		return nil, fmt.Errorf("%q has a digest, which cannot be chosen", name)
	}

	if registry := reference.Domain(named); !strings.ContainsAny(registry, ".:") && registry != "localhost" {
		name = "localhost/" + name
	}
	if named, err = reference.ParseNormalizedNamed(name); err != nil {
		return nil, fmt.Errorf("%q is not the name of an image: %w", name, err)
	}

	tagged, ok := reference.TagNameOnly(named).(reference.NamedTagged)
	if !ok {
		return nil, fmt.Errorf("%q has no tag", name)
	}
	return tagged, nil
}

// repository returns a full name without tag and digest.
func repository(name string) string {
	named, err := reference.ParseNamed(name)
	if err != nil {
		return name
	}
	return named.Name()
}
