package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
	imagecopy "go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/docker"
	dockerarchive "go.podman.io/image/v5/docker/archive"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/manifest"
	ociarchive "go.podman.io/image/v5/oci/archive"
	ocilayout "go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/pkg/shortnames"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	istorage "go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/types"
	cs "go.podman.io/storage"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
)

// Policy says when Pull asks the registry.
type Policy string

// The policies, named as --pull and --policy name them.
const (
	PullMissing Policy = "missing" // only if the store has no image of that name
	PullAlways  Policy = "always"  // always; the store's image does not help if that fails
	PullNewer   Policy = "newer"   // if the registry has another digest; else, or if it cannot be asked, the store's
	PullNever   Policy = "never"   // only what the store has
)

// ParsePolicy accepts the names above, "ifnotpresent" as podman does, and "" as
// missing.
func ParsePolicy(s string) (Policy, error) {
	switch p := Policy(strings.ToLower(s)); p {
	case "", "ifnotpresent", "ifmissing":
		return PullMissing, nil
	case PullMissing, PullAlways, PullNewer, PullNever:
		return p, nil
	}
	return "", fmt.Errorf("%q is no pull policy (always, missing, never, newer)", s)
}

// Pull makes sure, as the policy says, that st has the image that name means,
// and returns its ID and the full name under which it is known; the ID twice if
// it has no name. Names are those of Resolve (a part of an ID is not one); with
// a transport ("oci:/path:tag") the image is always copied, since nothing else
// tells whether the store has it already.
//
// From a manifest list the host's platform is taken, and that of
// Options.Platform if set. An image of the store for another platform does not
// count: it is pulled again. What is pulled by name for a platform that is not
// the host's is stored without a name unless Options.KeepName is set, and is found
// by this package only, so that the name goes on to mean an image that runs here. An interrupted or refused pull leaves no image;
// layers that were complete by then stay for the next attempt, until they are
// pruned.
func Pull(ctx context.Context, st cs.Store, name string, policy Policy, o Options) (id, found string, err error) {
	sys, err := o.systemContext()
	if err != nil {
		return "", "", err
	}

	t, rest, err := transport(name)
	if err != nil {
		return "", "", err
	}

	p := puller{st: st, sys: sys, o: o}
	switch {
	case t == nil:
		id, found, err = p.byName(ctx, name, policy)
		return id, found, hinted(err, name)
	case t.Name() == istorage.Transport.Name():
		img, found, err := resolve(st, rest, o)
		if err != nil {
			return "", "", err
		}
		return img.ID, found, nil
	case t.Name() == docker.Transport.Name() && policy != PullAlways:
		return p.byName(ctx, strings.TrimPrefix(rest, "//"), policy)
	}

	if policy == PullNever {
		return "", "", fmt.Errorf("%s: reading it is pulling it, which the policy %q forbids", name, policy)
	}

	ref, err := t.ParseReference(rest)
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", name, err)
	}

	return p.fromTransport(ctx, ref)
}

type puller struct {
	st  cs.Store
	sys *types.SystemContext
	o   Options

	what   string  // the source in messages; empty: its reference
	layout *Layout // where images are kept instead of the store; nil: they are not
}

func (p puller) shown(src types.ImageReference) string {
	return cmp.Or(p.what, strings.TrimPrefix(src.StringWithinTransport(), "//"))
}

// spool gives the library a directory for this pull. The caller releases it.
func (p puller) spool() (release func() error, err error) {
	p.sys.BigFilesTemporaryDir, release, err = newSpool(p.spoolBase())
	return release, err
}

func (p puller) spoolBase() string {
	if p.layout != nil {
		return p.layout.tmp
	}
	return p.o.spoolBase(p.st.GraphRoot())
}

// byName pulls a name without transport.
func (p puller) byName(ctx context.Context, name string, policy Policy) (id, full string, err error) {
	asked := name
	local, found, other, err := p.local(name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return "", "", err
	}

	if other != "" {
		name = found
		defer func() {
			if err != nil {
				id, full, err = "", "", &OtherPlatformError{asked, other, platformText(p.o.wanted()), err}
			}
		}()
	}

	if local != nil {
		byID := found == local.ID
		if policy == PullNever || policy == PullMissing || byID && policy == PullNewer {
			return local.ID, found, nil
		}
		if byID {
			return "", "", fmt.Errorf("%s is an ID, by which nothing can be pulled", name)
		}
		name = found // the name of the local image, not another short-name search
	} else if policy == PullNever {
		if other != "" {
			err = errors.New("the pull policy is never")
		}
		return "", "", err
	}

	if name, err = dropTagBesideDigest(name); err != nil {
		return "", "", err
	}

	resolved, text, err := resolveShort(p.sys, name)
	if err != nil {
		if local != nil && policy == PullNewer {
			return local.ID, found, nil
		}
		return "", "", fmt.Errorf("%s: %w", name, err)
	}

	if text != "" {
		p.o.say("%s", text)
	}

	return p.fromCandidates(ctx, resolved, local, found, policy)
}

// fromCandidates tries the names that a short name may stand for, in order.
func (p puller) fromCandidates(ctx context.Context, resolved *shortnames.Resolved, local *cs.Image, found string, policy Policy) (id, name string, err error) {
	release, err := p.spool()
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, release()) }()

	var failures []error
	for _, candidate := range resolved.PullCandidates {
		ref, err := p.registryReference(candidate.Value)
		if err != nil {
			failures = append(failures, err)
			continue
		}

		if policy == PullNewer && local != nil {
			same, err := p.sameDigest(ctx, ref, local)
			if err != nil {
				logrus.Debugf("Asking for the digest of %s: %v", candidate.Value, err)
			}
			if same || err != nil {
				continue
			}
		}

		p.o.say("Trying to pull %s...", candidate.Value)
		id, err := p.copyNamed(ctx, ref, candidate.Value)
		if err != nil {
			failures = append(failures, err)
			if ctx.Err() != nil {
				break
			}
			continue
		}

		if err := candidate.Record(); err != nil {
			logrus.Debugf("Recording the short name of %s: %v", candidate.Value, err)
		}
		return id, candidate.Value.String(), nil
	}

	if local != nil && policy == PullNewer && ctx.Err() == nil {
		return local.ID, found, nil
	}
	if len(failures) == 1 {
		return "", "", failures[0]
	}

	return "", "", resolved.FormatPullErrors(failures)
}

// registryReference refuses names below localhost/ unless registries.conf knows
// that as a registry: they are names of local images, and a connection refused
// on port 443 would not say so.
func (p puller) registryReference(named reference.Named) (types.ImageReference, error) {
	if reference.Domain(named) == "localhost" {
		configured, err := sysregistriesv2.FindRegistry(p.sys, named.Name())
		if err != nil {
			return nil, fmt.Errorf("reading registries.conf: %w", err)
		}
		if configured == nil {
			return nil, fmt.Errorf("%s: %w", named, ErrNotFound)
		}
	}

	ref, err := docker.NewReference(named)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", named, err)
	}
	return ref, nil
}

// sameDigest asks the registry for the digest of ref (of the list, if it is
// one) and compares it with those by which local is known.
func (p puller) sameDigest(ctx context.Context, ref types.ImageReference, local *cs.Image) (bool, error) {
	sys, err := p.o.Sources.admit(p.sys, ref)
	if err != nil {
		return false, err
	}

	var dgst digest.Digest
	err = p.o.watched(ctx, func(ctx context.Context, _ chan types.ProgressProperties) (err error) {
		dgst, err = docker.GetDigest(ctx, sys, ref)
		return err
	})
	if err != nil {
		return false, err
	}
	return local.Digest == dgst || slices.Contains(local.Digests, dgst), nil
}

// fromTransport pulls from anything that was named with its transport.
func (p puller) fromTransport(ctx context.Context, ref types.ImageReference) (id, name string, err error) {
	release, err := p.spool()
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, release()) }()

	names, err := p.namesInside(ref)
	if err != nil {
		return "", "", err
	}
	if len(names) == 0 {
		id, err = p.copyUnnamed(ctx, ref)
		return id, id, err
	}

	for _, named := range names {
		if id, err = p.copyNamed(ctx, ref, named); err != nil {
			return "", "", err
		}
	}

	return id, names[0].String(), nil
}

// namesInside returns the names under which an image outside the store is to be
// stored: what the reference or the archive says, nothing where neither does.
func (p puller) namesInside(ref types.ImageReference) ([]reference.Named, error) {
	var inside []string
	switch ref.Transport().Name() {
	case docker.Transport.Name():
		return []reference.Named{reference.TagNameOnly(ref.DockerReference())}, nil
	case ocilayout.Transport.Name():
		_, name, _ := strings.Cut(ref.StringWithinTransport(), ":")
		inside = append(inside, name)
	case ociarchive.Transport.Name():
		descriptor, err := ociarchive.LoadManifestDescriptorWithContext(p.sys, ref)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", ref.StringWithinTransport(), err)
		}
		name := descriptor.Annotations["io.containerd.image.name"]
		if name == "" {
			name = descriptor.Annotations[ocispec.AnnotationRefName]
		}
		inside = append(inside, name)
	case dockerarchive.Transport.Name():
		reader, readerRef, err := dockerarchive.NewReaderForReference(p.sys, ref)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", ref.StringWithinTransport(), err)
		}
		defer reader.Close()
		if inside, err = reader.ManifestTagsForReference(readerRef); err != nil {
			return nil, fmt.Errorf("reading %s: %w", ref.StringWithinTransport(), err)
		}
	}

	var names []reference.Named
	for _, name := range inside {
		if name == "" {
			continue
		}
		named, err := normalizeTag(name)
		if err != nil {
			// An index in an OCI layout (oci:/path:@0) or a free-form
			// annotation: no name to keep.
			logrus.Debugf("%s: not kept as a name: %v", name, err)
			continue
		}
		names = append(names, named)
	}

	return names, nil
}

// copyNamed stores an image under its name, unless it is for another platform.
func (p puller) copyNamed(ctx context.Context, ref types.ImageReference, named reference.Named) (string, error) {
	if p.layout != nil {
		return p.keep(ctx, ref, named.String())
	}
	if !p.o.foreign() {
		return p.copy(ctx, ref, named, "")
	}
	id, err := p.copyForeign(ctx, ref, named)
	if err == nil {
		recordPulled(p.st, id, named, p.o.wanted())
	}
	return id, err
}

// copyForeign stores an image for a platform that is not the host's.
func (p puller) copyForeign(ctx context.Context, ref types.ImageReference, named reference.Named) (string, error) {
	if p.o.KeepName {
		return p.copy(ctx, ref, named, "")
	}
	return p.copyUnnamed(ctx, ref)
}

// copyUnnamed stores an image that will be known by its ID only.
func (p puller) copyUnnamed(ctx context.Context, ref types.ImageReference) (string, error) {
	if p.layout != nil {
		return p.keep(ctx, ref)
	}

	sys, err := p.o.Sources.admit(p.sys, ref)
	if err != nil {
		return "", err
	}

	var config digest.Digest
	var raw []byte
	err = p.o.watched(ctx, func(ctx context.Context, _ chan types.ProgressProperties) error {
		img, err := ref.NewImage(ctx, sys)
		if err != nil {
			return plainError(err)
		}
		config = img.ConfigInfo().Digest
		raw, _, err = img.Manifest(ctx)
		return errors.Join(err, img.Close())
	})
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", p.shown(ref), err)
	}
	if err := config.Validate(); err != nil {
		return "", fmt.Errorf("%s has no config to take an ID from: %w", p.shown(ref), err)
	}

	sum, err := manifest.Digest(raw)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", p.shown(ref), err)
	}

	have, err := p.stored(config, sum)
	if err != nil {
		return "", err
	}
	if have == nil {
		return p.copy(ctx, ref, nil, config.Encoded())
	}

	if ref.Transport().Name() == docker.Transport.Name() {
		noteOrigin(p.st, have.ID, ref.DockerReference().String(), sum)
	}

	return have.ID, nil
}

// stored finds the image with this config and manifest in the store. It returns nil if there is none, or its layers are
// gone.
func (p puller) stored(config, sum digest.Digest) (*cs.Image, error) {
	twins, err := containers.Twins(p.st, config)
	if err != nil {
		return nil, err
	}
	for i, img := range twins {
		complete := img.TopLayer == "" || p.st.Exists(img.TopLayer)
		if img.BigDataDigests[cs.ImageDigestBigDataKey] == sum && complete {
			return &twins[i], nil
		}
	}
	return nil, nil
}

// copy stores src under the name or, if that is nil, the ID, and returns the
// ID.
func (p puller) copy(ctx context.Context, src types.ImageReference, named reference.Named, id string) (string, error) {
	sys, err := p.o.Sources.admit(p.sys, src)
	if err != nil {
		return "", err
	}

	guarded := guard(ctx, p.st, p.o)
	dest, err := istorage.Transport.NewStoreReference(guarded, named, id)
	if err != nil {
		return "", fmt.Errorf("storing %s: %w", src.StringWithinTransport(), err)
	}

	policy, err := policyContext(p.sys)
	if err != nil {
		return "", err
	}
	defer func() { _ = policy.Destroy() }() // fails only for a context in use

	what := p.shown(src)
	from := src
	if p.o.MaxLayers > 0 {
		from = limitedReference{ImageReference: src, most: p.o.MaxLayers, name: what}
	}
	err = p.o.withRetry(ctx, what, func() error {
		return p.o.watched(ctx, func(ctx context.Context, progress chan types.ProgressProperties) error {
			_, err := imagecopy.Image(ctx, policy, dest, from, &imagecopy.Options{
				ReportWriter:     p.o.copyReport(),
				SourceCtx:        sys,
				DestinationCtx:   p.sys,
				RemoveSignatures: p.o.NoSignatures,
				Progress:         progress,
				ProgressInterval: time.Nanosecond,
			})
			return err
		})
	})
	if err != nil {
		return "", fmt.Errorf("pulling %s: %w", what, plainError(err))
	}
	if guarded.image == "" {
		return "", fmt.Errorf("reading %s back from the store: %w", what, ErrNotFound)
	}

	if src.Transport().Name() == docker.Transport.Name() {
		noteOrigin(p.st, guarded.image, src.DockerReference().String(), guarded.manifests...)
	} else if guarded.created[guarded.image] {
		noteOrigin(p.st, guarded.image, "", guarded.manifests...)
	}

	return guarded.image, nil
}

// plainError leaves of a refusal what the user has to know, and makes one line
// of the library's errors about layers.
func plainError(err error) error {
	if refused := (*RefusedError)(nil); errors.As(err, &refused) {
		return refused
	}
	if owner := (*OwnerError)(nil); errors.As(err, &owner) {
		return owner
	}
	if layers := (*LayersError)(nil); errors.As(err, &layers) {
		return layers
	}
	if strings.Contains(err.Error(), "\n") {
		return lineError{err}
	}
	return err
}

type lineError struct{ err error }

func (e lineError) Error() string {
	return strings.Join(strings.FieldsFunc(e.err.Error(), func(r rune) bool { return r == '\n' }), "; ")
}

func (e lineError) Unwrap() error { return e.err }
