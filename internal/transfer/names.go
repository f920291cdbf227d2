package transfer

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/docker"
	dockerarchive "go.podman.io/image/v5/docker/archive"
	"go.podman.io/image/v5/docker/reference"
	ociarchive "go.podman.io/image/v5/oci/archive"
	ocilayout "go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/pkg/shortnames"
	istorage "go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/types"
	cs "go.podman.io/storage"

	"codeberg.org/rbuild/rbuild/internal/imagename"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
)

// ErrNotFound says that the store has no image of that name.
var ErrNotFound = errors.New("no such image in the store")

// minIDPrefix is the shortest beginning of an ID that Lookup takes for one; it
// is that of the containers-storage transport.
const minIDPrefix = 3

var hexDigits = regexp.MustCompile(`^[0-9a-f]+$`)

// transport returns the transport that name is prefixed with by the rules of
// package imagename, and the rest as the transport parses it. A nil transport
// with a nil error means that name is the name of an image.
func transport(name string) (types.ImageTransport, string, error) {
	n, err := imagename.Parse(name)
	if err != nil {
		return nil, "", err
	}

	switch n.Transport {
	case imagename.Registry:
		return docker.Transport, "//" + n.Rest, nil
	case imagename.Layout:
		return ocilayout.Transport, n.Rest, nil
	case imagename.LayoutArchive:
		return ociarchive.Transport, n.Rest, nil
	case imagename.DockerArchive:
		return dockerarchive.Transport, n.Rest, nil
	case imagename.Directory:
		return directory.Transport, n.Rest, nil
	case imagename.Store:
		return istorage.Transport, n.Rest, nil
	}

	return nil, n.Rest, nil
}

// hinted adds a hint to an error about a name like "dir:out": a path is written "dir:./out".
func hinted(err error, name string) error {
	if hint := imagename.Hint(name); err != nil && hint != "" {
		return fmt.Errorf("%w (%s)", err, hint)
	}
	return err
}

// Resolve finds the image of st that name means where an image is used as a
// base or copied from: by its name alone. Tried in this order, as podman does:
// aliases, localhost/, the unqualified-search registries, docker.io/library/;
// the tag is latest where none is given, and ignored where a digest is. A
// complete ID (64 hexadecimal digits, optionally after "sha256:") is accepted
// too, a part of one never: FROM b is not the image whose ID begins with b.
//
// It returns the image and the name under which it was found; the ID if by ID.
// The error wraps ErrNotFound if there is none.
func Resolve(st cs.Store, name string, o Options) (*cs.Image, string, error) {
	n, err := imagename.Parse(name)
	switch {
	case err != nil:
		return nil, "", err
	case n.Transport != "" && n.Transport != imagename.Store:
		return nil, "", fmt.Errorf("%s: not a name of the store: %w", name, ErrNotFound)
	}
	img, found, err := resolve(st, n.Rest, o)
	return img, found, hinted(err, name)
}

// resolve is Resolve for a name that is known to have no transport.
func resolve(st cs.Store, name string, o Options) (*cs.Image, string, error) {
	sys, err := o.systemContext()
	if err != nil {
		return nil, "", err
	}
	if id := strings.TrimPrefix(strings.TrimPrefix(name, "@"), "sha256:"); reference.IsFullIdentifier(id) {
		return byID(st, id)
	}

	candidates, err := localCandidates(sys, name)
	if err != nil {
		return nil, "", err
	}

	for _, candidate := range candidates {
		img, err := byName(st, candidate)
		if err != nil {
			return nil, "", err
		}
		if img != nil {
			return img, candidate.String(), nil
		}
	}

	return nil, "", fmt.Errorf("%s: %w", name, ErrNotFound)
}

// Lookup is Resolve for commands that a person gives about an image that is
// there (inspect, tag, push): where no name matches, the unique beginning of an
// ID does, if it has at least three digits.
func Lookup(st cs.Store, name string, o Options) (*cs.Image, string, error) {
	img, found, err := Resolve(st, name, o)
	if err == nil || !errors.Is(err, ErrNotFound) {
		return img, found, err
	}
	if len(name) >= minIDPrefix && hexDigits.MatchString(name) {
		if byPrefix, found, idErr := byID(st, name); idErr == nil {
			return byPrefix, found, nil
		}
	}
	return nil, "", err
}

func byID(st cs.Store, id string) (*cs.Image, string, error) {
	img, err := st.Image(id)
	if errors.Is(err, cs.ErrImageUnknown) && reference.IsFullIdentifier(id) {
		img, err = containers.ByConfig(st, digest.NewDigestFromEncoded(digest.SHA256, id))
		if err == nil {
			return img, img.ID, nil
		}
	}

	if errors.Is(err, containers.ErrSeveral) {
		return nil, "", fmt.Errorf("%s: %w", id, err)
	}
	if err != nil || !strings.HasPrefix(img.ID, id) {
		return nil, "", fmt.Errorf("%s: %w", id, ErrNotFound)
	}
	return img, img.ID, nil
}

// byName returns nil without an error if st has no such image, or one whose
// layers are gone.
func byName(st cs.Store, named reference.Named) (*cs.Image, error) {
	ref, err := istorage.Transport.NewStoreReference(st, named, "")
	if err != nil {
		return nil, fmt.Errorf("looking up %s: %w", named, err)
	}

	_, img, err := istorage.ResolveReference(ref)
	if errors.Is(err, istorage.ErrNoSuchImage) || errors.Is(err, cs.ErrImageUnknown) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking up %s: %w", named, err)
	}
	if img.TopLayer != "" && !st.Exists(img.TopLayer) {
		return nil, nil
	}
	return img, nil
}

// localCandidates are the full names that name may stand for in the store.
func localCandidates(sys *types.SystemContext, name string) ([]reference.Named, error) {
	name, err := dropTagBesideDigest(name)
	if err != nil {
		return nil, err
	}

	candidates, err := shortnames.ResolveLocally(sys, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}

	if named, err := reference.ParseDockerRef(name); err == nil {
		candidates = append(candidates, named)
	}
	return candidates, nil
}

// dropTagBesideDigest turns name:tag@digest into name@digest, which is what it
// means: the digest alone identifies the image.
func dropTagBesideDigest(name string) (string, error) {
	ref, err := reference.Parse(name)
	if err != nil {
		return "", fmt.Errorf("%q is not the name of an image: %w", name, err)
	}

	named, ok := ref.(reference.Named)
	if !ok {
		return "", fmt.Errorf("%q is not the name of an image", name)
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

// NormalizeTag returns the full name that an image gets when it is tagged with
// name: a short one below localhost/, and with :latest if it has no tag. A
// digest is refused, since it can only follow from the content, and so is a
// place outside the store, such as "oci:/path".
func NormalizeTag(name string) (reference.NamedTagged, error) {
	n, err := imagename.Parse(name)
	if err != nil {
		return nil, err
	}
	if n.Transport != "" && n.Transport != imagename.Store {
		return nil, fmt.Errorf("%q names a place outside the store, not an image", name)
	}
	return normalizeTag(n.Rest)
}

// normalizeTag is NormalizeTag for a name that is known to have no transport.
func normalizeTag(name string) (reference.NamedTagged, error) {
	ref, err := reference.Parse(name)
	if err != nil {
		return nil, fmt.Errorf("%q is not the name of an image: %w", name, err)
	}

	named, ok := ref.(reference.Named)
	if !ok {
		return nil, fmt.Errorf("%q is not the name of an image", name)
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
