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
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"

	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/images/layercheck"
	"codeberg.org/rbuild/rbuild/internal/images/spool"
)

// Policy says when Pull asks the registry.
type Policy string

// The policies, named as --pull and --policy name them.
const (
	PullMissing Policy = "missing" // only if the store has no image of that name
	PullAlways  Policy = "always"  // always; Pull fails if the registry fails
	PullNewer   Policy = "newer"   // if the registry has another digest; if the registry fails, the image of the store is used
	PullNever   Policy = "never"   // never; only images of the store are used
)

// ParsePolicy parses the value of --pull. It also accepts "ifnotpresent" and "ifmissing" as podman
// does, and "": all three mean missing.
func ParsePolicy(s string) (Policy, error) {
	switch p := Policy(strings.ToLower(s)); p {
	case "", "ifnotpresent", "ifmissing":
		return PullMissing, nil
	case PullMissing, PullAlways, PullNewer, PullNever:
		return p, nil
	}
	return "", fmt.Errorf("%q is no pull policy (always, missing, never, newer)", s)
}

// Pull makes sure, as the policy says, that st has the image that name means, and returns its ID
// and the full name under which it is known; the ID twice if it has no name. Names are those of
// images.Resolve (a part of an ID is not a name); with a transport ("oci:/path:tag") the image is
// always copied, because nothing else says whether the store has it already.
//
// From a list of manifests Pull takes the image for the host's platform, or for Options.Platform.
// An image of the store for another platform does not count: Pull copies the right image. An image
// that is pulled by name for a platform that is not the host's gets the name only as
// Options.KeepName says. An interrupted or refused pull leaves no image; layers that were complete
// by then stay for the next attempt, until they are pruned.
func Pull(ctx context.Context, st Store, name string, policy Policy, o Options) (id, found string, err error) {
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
		return id, found, images.Hinted(err, name)
	case isStore(t):
		img, found, err := images.ResolvePlain(st, rest, o.Names)
		if err != nil {
			return "", "", err
		}
		return img.ID, found, nil
	case isRegistry(t) && policy != PullAlways:
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

// puller is one pull into a store.
type puller struct {
	st   Store
	sys  *types.SystemContext
	o    Options
	what string // the source in messages; "": its reference
}

// newPuller prepares a pull from files. The caller calls release at the end.
func newPuller(st Store, o Options) (p puller, release func() error, err error) {
	sys, err := o.systemContext()
	if err != nil {
		return p, nil, err
	}
	p = puller{st: st, sys: sys, o: o}
	release, err = p.spool()
	return p, release, err
}

func (p puller) shown(src types.ImageReference) string {
	return cmp.Or(p.what, strings.TrimPrefix(src.StringWithinTransport(), "//"))
}

// spool makes a directory for the temporary files of this pull. The caller calls release at the
// end.
func (p puller) spool() (release func() error, err error) {
	p.sys.BigFilesTemporaryDir, release, err = spool.New(p.o.spoolDir(p.st))
	return release, err
}

// local is the image of the store that a name means.
type local struct {
	img   *images.Image // nil: the store has no image for the wanted platform
	found string        // the full name, or the ID
	other string        // the platform for which the store has the name instead; "": none
}

// local looks in the store.
func (p puller) local(name string) (local, error) {
	if id, ok := images.CompleteID(name); ok {
		img, err := p.st.ResolveImage(id)
		if err != nil {
			return local{}, err
		}
		return local{img: &img, found: img.ID}, nil
	}

	candidates, err := p.o.Candidates(name)
	if err != nil {
		return local{}, err
	}
	img, found, other, err := p.st.FindFor(candidates, p.o.wanted())
	if errors.Is(err, images.ErrNotFound) {
		return local{found: found, other: other}, fmt.Errorf("%s: %w", name, images.ErrNotFound)
	}
	if err != nil {
		return local{}, err
	}
	return local{img: &img, found: found}, nil
}

// byName pulls a name without transport.
func (p puller) byName(ctx context.Context, name string, policy Policy) (id, full string, err error) {
	have, localErr := p.local(name)
	if localErr != nil && !errors.Is(localErr, images.ErrNotFound) {
		return "", "", localErr
	}

	if have.other != "" {
		asked := name
		name = have.found
		defer func() {
			if err != nil {
				id = ""
				full = ""
				err = &OtherPlatformError{asked, have.other, images.PlatformText(p.o.wanted()), err}
			}
		}()
	}

	switch {
	case have.img == nil && policy == PullNever && have.other != "":
		return "", "", errors.New("the pull policy is never")
	case have.img == nil && policy == PullNever:
		return "", "", localErr
	case have.img != nil:
		byID := have.found == have.img.ID
		if policy == PullNever || policy == PullMissing || byID && policy == PullNewer {
			return have.img.ID, have.found, nil
		}
		if byID {
			return "", "", fmt.Errorf("%s is an ID, by which nothing can be pulled", name)
		}
		name = have.found // the name of the local image, not another search for a short name
	}

	if name, err = images.DropTagBesideDigest(name); err != nil {
		return "", "", err
	}

	resolved, text, err := resolveShort(p.sys, name)
	if err != nil {
		if have.img != nil && policy == PullNewer {
			return have.img.ID, have.found, nil
		}
		return "", "", fmt.Errorf("%s: %w", name, err)
	}
	if text != "" {
		p.o.say("%s", text)
	}

	return p.fromCandidates(ctx, resolved, have, policy)
}

// fromCandidates pulls by the first full name that a short name may stand for and that works.
func (p puller) fromCandidates(
	ctx context.Context, resolved *shortnames.Resolved, have local, policy Policy,
) (id, name string, err error) {
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

		if policy == PullNewer && have.img != nil {
			same, err := p.sameDigest(ctx, ref, have.img)
			if err != nil {
				logrus.Debugf("Asking for the digest of %s: %v", candidate.Value, err)
			}
			if same || err != nil {
				continue
			}
		}

		p.o.say("Trying to pull %s...", candidate.Value)
		id, err := p.copy(ctx, ref, candidate.Value)
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

	if have.img != nil && policy == PullNewer && ctx.Err() == nil {
		return have.img.ID, have.found, nil
	}
	if len(failures) == 1 {
		return "", "", failures[0]
	}

	return "", "", resolved.FormatPullErrors(failures)
}

// registryReference refuses a name below localhost/, which is the name of a local image, unless
// registries.conf has localhost as a registry. Otherwise the user would see a refused connection to
// port 443.
func (p puller) registryReference(named reference.Named) (types.ImageReference, error) {
	if reference.Domain(named) == "localhost" {
		configured, err := sysregistriesv2.FindRegistry(p.sys, named.Name())
		if err != nil {
			return nil, fmt.Errorf("reading registries.conf: %w", err)
		}
		if configured == nil {
			return nil, fmt.Errorf("%s: %w", named, images.ErrNotFound)
		}
	}

	ref, err := docker.NewReference(named)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", named, err)
	}
	return ref, nil
}

// sameDigest asks the registry for the digest of ref, or of the list of manifests to which ref
// refers, and reports whether the local image has this digest.
func (p puller) sameDigest(ctx context.Context, ref types.ImageReference, local *images.Image) (bool, error) {
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

// fromTransport pulls from a reference that the user wrote with its transport.
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
		id, err = p.copy(ctx, ref, nil)
		return id, id, err
	}

	for _, named := range names {
		if id, err = p.copy(ctx, ref, named); err != nil {
			return "", "", err
		}
	}

	return id, names[0].String(), nil
}

// namesInside returns the names that an image gets in the store: the names of the reference or of
// the archive, none if neither has a name.
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
		named, err := images.NormalizePlainTag(name)
		if err != nil {
			// A position in an OCI layout (oci:/path:@0), or an annotation with free text.
			logrus.Debugf("%s: not kept as a name: %v", name, err)
			continue
		}
		names = append(names, named)
	}

	return names, nil
}

// copy stores src, under its name unless that is nil, and returns the ID.
func (p puller) copy(ctx context.Context, src types.ImageReference, named reference.Named) (id string, err error) {
	sys, err := p.o.Sources.admit(p.sys, src)
	if err != nil {
		return "", err
	}
	policy, err := policyContext(p.sys)
	if err != nil {
		return "", err
	}
	defer func() { _ = policy.Destroy() }() // fails only for a context in use
	if err := p.checkConfig(ctx, src, sys); err != nil {
		return "", err
	}

	dest, err := p.st.Receive(ctx, p.incoming(src, sys, named))
	if err != nil {
		return "", err
	}
	what := p.shown(src)
	if dest.Reference() != nil {
		if err := p.transfer(ctx, policy, src, dest.Reference(), sys); err != nil {
			return "", fmt.Errorf("pulling %s: %w", what, plainError(err))
		}
	}

	id, err = dest.Finish()
	if errors.Is(err, images.ErrNotFound) {
		return "", fmt.Errorf("reading %s back from the store: %w", what, err)
	}
	if err != nil {
		return "", fmt.Errorf("pulling %s: %w", what, err)
	}
	return id, nil
}

// incoming describes the image of src to the store.
func (p puller) incoming(src types.ImageReference, sys *types.SystemContext, named reference.Named) images.Incoming {
	registry := ""
	if isRegistry(src.Transport()) {
		registry = src.DockerReference().String()
	}
	wanted := p.o.wanted()
	return images.Incoming{
		Name:     named,
		Platform: wanted,
		Foreign:  images.IsForeign(wanted),
		KeepName: p.o.KeepName,
		Registry: registry,
		Owner:    p.o.Owner,
		Peek: func(ctx context.Context) (config, sum digest.Digest, err error) {
			return p.peek(ctx, src, sys)
		},
	}
}

// transfer copies the layers and documents of an image, with retries.
func (p puller) transfer(
	ctx context.Context, policy *signature.PolicyContext, src, dest types.ImageReference, sys *types.SystemContext,
) error {
	what := p.shown(src)
	from := src
	if p.o.MaxLayers > 0 {
		from = limitedReference{ImageReference: src, most: p.o.MaxLayers, name: what}
	}
	return p.o.withRetry(ctx, what, func() error {
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
}

// peek reads the digests of the config and of the manifest of src.
func (p puller) peek(ctx context.Context, src types.ImageReference, sys *types.SystemContext) (config, sum digest.Digest, err error) {
	var raw []byte
	err = p.withImage(ctx, src, sys, func(ctx context.Context, img types.Image) (err error) {
		config = img.ConfigInfo().Digest
		raw, _, err = img.Manifest(ctx)
		return err
	})
	if err != nil {
		return "", "", fmt.Errorf("reading %s: %w", p.shown(src), err)
	}
	if err := config.Validate(); err != nil {
		return "", "", fmt.Errorf("%s has no config to take an ID from: %w", p.shown(src), err)
	}

	sum, err = manifest.Digest(raw)
	if err != nil {
		return "", "", fmt.Errorf("reading %s: %w", p.shown(src), err)
	}
	return config, sum, nil
}

// checkConfig calls Options.Config with the config of src.
func (p puller) checkConfig(ctx context.Context, src types.ImageReference, sys *types.SystemContext) error {
	if p.o.Config == nil {
		return nil
	}
	return p.o.withRetry(ctx, p.shown(src), func() error {
		var config []byte
		err := p.withImage(ctx, src, sys, func(ctx context.Context, img types.Image) (err error) {
			config, err = img.ConfigBlob(ctx)
			return err
		})
		if err != nil {
			return fmt.Errorf("pulling %s: %w", p.shown(src), err)
		}
		return p.o.Config(config)
	})
}

// withImage opens src and reads from it.
func (p puller) withImage(
	ctx context.Context, src types.ImageReference, sys *types.SystemContext, read func(ctx context.Context, img types.Image) error,
) error {
	return p.o.watched(ctx, func(ctx context.Context, _ chan types.ProgressProperties) error {
		img, err := src.NewImage(ctx, sys)
		if err != nil {
			return plainError(err)
		}
		return errors.Join(read(ctx, img), img.Close())
	})
}

// plainError removes the library's words around a refusal, and joins the lines of the library's
// errors about layers.
func plainError(err error) error {
	if refused, ok := errors.AsType[*layercheck.RefusedError](err); ok {
		return refused
	}
	if owner, ok := errors.AsType[*layercheck.OwnerError](err); ok {
		return owner
	}
	if layers, ok := errors.AsType[*LayersError](err); ok {
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
