package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	imagecopy "go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/manifest"
	ocilayout "go.podman.io/image/v5/oci/layout"
	istorage "go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/types"
	cs "go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"

	"codeberg.org/rbuild/rbuild/internal/imagename"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// local is puller.local for a layout.
func (l *Layout) local(name string, sys *types.SystemContext, want ocispec.Platform) (img *cs.Image, found, other string, err error) {
	if id := strings.TrimPrefix(name, "sha256:"); reference.IsFullIdentifier(id) {
		k, err := l.find(func(k *kept) bool { return k.id == id })
		if err != nil || k == nil {
			return nil, "", "", cmp.Or(err, fmt.Errorf("%s: %w", name, ErrNotFound))
		}
		return k.image(), k.id, "", nil
	}

	candidates, err := localCandidates(sys, name)
	if err != nil {
		return nil, "", "", err
	}

	for _, c := range candidates {
		k, err := l.find(func(k *kept) bool {
			if k.name() != c.String() {
				return false
			}
			same, is := k.isFor(want)
			if !same {
				found, other = c.String(), is
			}
			return same
		})
		if err != nil {
			return nil, "", "", err
		}
		if k != nil {
			return k.image(), c.String(), "", nil
		}
	}

	return nil, found, other, fmt.Errorf("%s: %w", name, ErrNotFound)
}

// image is what the store would say of it.
func (k *kept) image() *cs.Image {
	return &cs.Image{ID: k.id, Digest: k.desc.Digest, Digests: []digest.Digest{k.desc.Digest}}
}

// lookUp is Lookup for a layout.
func (l *Layout) lookUp(name string, o Options) (k *kept, found string, err error) {
	sys, err := o.systemContext()
	if err != nil {
		return nil, "", err
	}

	n, err := imagename.Parse(name)
	if err != nil {
		return nil, "", err
	}
	if n.Transport != "" && n.Transport != imagename.Store {
		return nil, "", fmt.Errorf("%s: not a name of the store: %w", name, ErrNotFound)
	}

	name = n.Rest
	isID := len(name) >= minIDPrefix && hexDigits.MatchString(name)
	candidates, err := localCandidates(sys, name)
	if err != nil && !isID {
		return nil, "", err
	}

	for _, c := range candidates {
		if k, err = l.find(func(k *kept) bool { return k.name() == c.String() }); k != nil || err != nil {
			return k, c.String(), err
		}
	}

	if isID {
		if k, err = l.find(func(k *kept) bool { return strings.HasPrefix(k.id, name) }); k != nil || err != nil {
			return k, name, err
		}
	}

	return nil, "", fmt.Errorf("%s: %w", name, ErrNotFound)
}

// Pull is the function Pull for a layout in place of the store.
func (l *Layout) Pull(ctx context.Context, name string, policy Policy, o Options) (id, found string, err error) {
	p, release, err := l.puller(o)
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, release()) }()
	n, err := imagename.Parse(name)
	if err != nil {
		return "", "", err
	}
	id, found, err = p.byName(ctx, n.Rest, policy)
	return id, found, hinted(err, name)
}

func (l *Layout) puller(o Options) (p puller, release func() error, err error) {
	sys, err := o.systemContext()
	if err != nil {
		return p, nil, err
	}
	p = puller{sys: sys, o: o, layout: l}
	release, err = p.spool()
	return p, release, err
}

// Load is the function Load for a layout in place of the store.
func (l *Layout) Load(ctx context.Context, name string, o Options) (id string, err error) {
	p, release, err := l.puller(o)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, release()) }()
	return p.load(ctx, name)
}

// LoadLayout is the function LoadLayout for this layout in place of the store.
func (l *Layout) LoadLayout(ctx context.Context, dir, which string, o Options) (id string, err error) {
	p, release, err := l.puller(o)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, release()) }()
	return p.fromLayout(ctx, dir, which, "the OCI layout "+dir)
}

// keep copies an image into the layout, as it is.
func (p puller) keep(ctx context.Context, src types.ImageReference, names ...string) (id string, err error) {
	sys, err := p.o.Sources.admit(p.sys, src)
	if err != nil {
		return "", err
	}

	policy, err := policyContext(p.sys)
	if err != nil {
		return "", err
	}
	defer func() { _ = policy.Destroy() }() // fails only for a context in use
	if err := p.look(ctx, src, sys); err != nil {
		return "", err
	}

	ref, err := p.layout.reference()
	if err != nil {
		return "", err
	}

	dest := &keepingReference{ImageReference: ref}
	what := p.shown(src)
	err = p.o.withRetry(ctx, what, func() error {
		return p.o.watched(ctx, func(ctx context.Context, progress chan types.ProgressProperties) error {
			_, err := imagecopy.Image(ctx, policy, dest, src, &imagecopy.Options{
				ReportWriter: p.o.copyReport(), SourceCtx: sys, DestinationCtx: p.sys, PreserveDigests: false,
				Progress: progress, ProgressInterval: time.Nanosecond,
			})
			return err
		})
	})
	if err != nil {
		return "", fmt.Errorf("pulling %s: %w", what, plainError(err))
	}
	if err := p.layout.putBlob(dest.manifest); err != nil {
		return "", err
	}

	desc, err := describePushed(dest.manifest)
	if err != nil {
		return "", err
	}

	k, err := describe(desc, dest.manifest)
	if err != nil {
		return "", fmt.Errorf("pulling %s: %w", what, err)
	}

	config, err := p.layout.readBlob(k.manifest.ConfigInfo().Digest)
	if err != nil {
		return "", fmt.Errorf("pulling %s: %w", what, err)
	}

	k.desc.Platform = platformOf(config)
	if err := p.layout.put(k, names, false); err != nil { // sets the ID
		return "", err
	}

	return k.id, nil
}

// look shows the config of an image to who may refuse it.
func (p puller) look(ctx context.Context, src types.ImageReference, sys *types.SystemContext) error {
	if p.o.Config == nil {
		return nil
	}
	return p.o.withRetry(ctx, p.shown(src), func() error {
		var config []byte
		err := p.o.watched(ctx, func(ctx context.Context, _ chan types.ProgressProperties) error {
			img, err := src.NewImage(ctx, sys)
			if err != nil {
				return plainError(err)
			}
			config, err = img.ConfigBlob(ctx)
			return errors.Join(err, img.Close())
		})
		if err != nil {
			return fmt.Errorf("pulling %s: %w", p.shown(src), err)
		}
		return p.o.Config(config)
	})
}

func (l *Layout) reference() (types.ImageReference, error) {
	ref, err := ocilayout.NewReference(l.dir, "")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.dir, err)
	}
	return ref, nil
}

// keepingReference is the layout as the destination of a copy that changes nothing: the library would make OCI documents
// of docker's, which have no place for ONBUILD and HEALTHCHECK, and write the index without a lock.
type keepingReference struct {
	types.ImageReference
	manifest []byte // that was copied
}

// NewImageDestination writes blobs to the layout.
func (r *keepingReference) NewImageDestination(ctx context.Context, sys *types.SystemContext) (types.ImageDestination, error) {
	dest, err := r.ImageReference.NewImageDestination(ctx, sys)
	if err != nil {
		return nil, err
	}
	return keepingDestination{dest, r}, nil
}

type keepingDestination struct {
	types.ImageDestination
	ref *keepingReference
}

func (d keepingDestination) Reference() types.ImageReference { return d.ref }

func (d keepingDestination) SupportedManifestMIMETypes() []string {
	return []string{ocispec.MediaTypeImageManifest, manifest.DockerV2Schema2MediaType}
}

func (d keepingDestination) DesiredLayerCompression() types.LayerCompression {
	return types.PreserveOriginal
}

func (d keepingDestination) PutManifest(_ context.Context, data []byte, _ *digest.Digest) error {
	d.ref.manifest = slices.Clone(data)
	return nil
}

func (d keepingDestination) Commit(context.Context, types.UnparsedImage) error { return nil }

// Push is the function Push for an image of the layout.
func (l *Layout) Push(ctx context.Context, image, destination string, o PushOptions) (pushed ocispec.Descriptor, err error) {
	sys, err := o.pushContext()
	if err != nil {
		return pushed, err
	}

	mediaType, err := manifestType(o.Format)
	if err != nil {
		return pushed, err
	}

	img, found, err := l.lookUp(image, o.Options)
	if err != nil {
		return pushed, err
	}

	if destination == "" {
		if found != img.name() {
			return pushed, fmt.Errorf("%s is an ID: name the destination", image)
		}
		destination = found
	}

	if t, _, err := transport(destination); err == nil && t != nil && t.Name() == istorage.Transport.Name() {
		return pushed, fmt.Errorf("%s: there is no store where no user namespace can be made", destination)
	}

	dest, err := destinationReference(ctx, nil, destination)
	if err != nil {
		return pushed, err
	}
	if sys, err = o.Sources.admit(sys, dest); err != nil {
		return pushed, err
	}

	var release func() error
	if sys.BigFilesTemporaryDir, release, err = l.NewScratch(); err != nil {
		return pushed, err
	}
	defer func() { err = errors.Join(err, release()) }()

	nameArchive(sys, dest, found)
	ref, err := l.reference()
	if err != nil {
		return pushed, err
	}

	src := &layoutReference{ImageReference: ref, dir: l.dir, manifest: img.raw, mediaType: img.desc.MediaType}
	raw, err := copyOut(ctx, src, dest, sys, mediaType, o)
	if err != nil {
		return pushed, hinted(fmt.Errorf("pushing %s to %s: %w", image, destination, err), destination)
	}

	return describePushed(raw)
}

// Layer opens a layer as a plain tar. Reading to its end verifies the digests of what is kept and of the tar, and that no
// honest builder would have written it otherwise (guard.go); what was read before may not be believed.
func (l *Layout) Layer(ctx context.Context, blob ocispec.Descriptor, diffID digest.Digest) (io.ReadCloser, error) {
	path, err := blobPath(l.dir, blob.Digest)
	if err != nil {
		return nil, err
	}

	f, size, err := fdfs.OpenRegular(path)
	if err != nil {
		return nil, fmt.Errorf("opening layer %s: %w", blob.Digest, err)
	}
	if blob.Size >= 0 && blob.Size != size {
		return nil, errors.Join(fmt.Errorf("layer %s has %d bytes, the manifest says %d", blob.Digest, size, blob.Size), f.Close())
	}

	raw := &verifier{Reader: f, want: blob.Digest, sum: blob.Digest.Verifier()}
	plain, err := archive.DecompressStream(raw)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("decompressing layer %s: %w", blob.Digest, err), f.Close())
	}
	if err := diffID.Validate(); err != nil {
		return nil, errors.Join(fmt.Errorf("layer %s: the config gives it the digest %q", blob.Digest, diffID), plain.Close(), f.Close())
	}

	checked := newCheckedReader(ctx, &verifier{Reader: plain, want: diffID, sum: diffID.Verifier()}, size, nil)

	return &layerReader{checkedReader: checked, raw: raw, plain: plain, file: f}, nil
}

// verifier fails at the end of what has another digest.
type verifier struct {
	io.Reader
	want digest.Digest
	sum  digest.Verifier
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.Reader.Read(p)
	_, _ = v.sum.Write(p[:n]) // documented to return nil always
	if errors.Is(err, io.EOF) && !v.sum.Verified() {
		err = fmt.Errorf("what should be layer %s has another digest", v.want)
	}
	return n, err
}

// layerReader is an open layer.
type layerReader struct {
	*checkedReader
	raw   io.Reader
	plain io.Closer
	file  *os.File
}

// Read reads on; at the end it looks at what a decompressor leaves behind.
func (r *layerReader) Read(p []byte) (int, error) {
	n, err := r.checkedReader.Read(p)
	if errors.Is(err, io.EOF) {
		if _, rest := io.Copy(io.Discard, r.raw); rest != nil {
			err = rest
		}
	}
	return n, err
}

// Close closes the layer.
func (r *layerReader) Close() error {
	r.checkedReader.Close()
	return errors.Join(r.plain.Close(), r.file.Close())
}

// PutLayer keeps the plain tar that write writes, of which it returns the digest.
func (l *Layout) PutLayer(write func(w io.Writer) (digest.Digest, error)) error {
	return l.replace(func(f *os.File) (string, error) {
		sum, err := write(f)
		if err != nil {
			return "", err
		}
		return blobPath(l.dir, sum)
	})
}
