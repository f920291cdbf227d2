package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	imagecopy "go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/docker"
	dockerarchive "go.podman.io/image/v5/docker/archive"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/manifest"
	ociarchive "go.podman.io/image/v5/oci/archive"
	ocilayout "go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/pkg/compression"
	istorage "go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/types"
	cs "go.podman.io/storage"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
)

// PushOptions are the Options of a push and what it makes of the image. The
// zero value keeps the image's manifest format and compresses with gzip.
type PushOptions struct {
	Options
	Format            string // manifest: "oci", "docker" (or "v2s2"), "v2s1"; empty: as stored
	CompressionFormat string // "gzip", "zstd", "zstd:chunked"; empty: gzip, and what the destination already has in any format
	CompressionLevel  *int   // of that format; nil: its default
	AnyCompression    bool   // what the destination has already will do, in whatever format
}

// Push copies an image of the store, found as by Lookup, to destination: a name
// with a transport, or without one a name in a registry. An empty destination
// means the registry that the image is named after. It returns what a list of
// manifests would say of the manifest as it is at the destination.
//
// Layers are compressed on the way, unless the destination has them already:
// those that were pulled or pushed before are recognised by their digest
// without being compressed again.
func Push(ctx context.Context, st cs.Store, image, destination string, o PushOptions) (pushed ocispec.Descriptor, err error) {
	sys, err := o.pushContext()
	if err != nil {
		return pushed, err
	}

	mediaType, err := manifestType(o.Format)
	if err != nil {
		return pushed, err
	}

	img, found, err := Lookup(st, image, o.Options)
	if err != nil {
		return pushed, err
	}
	if err := containers.VerifyImage(st, img.ID); err != nil {
		return pushed, err
	}

	src, err := istorage.Transport.NewStoreReference(st, nil, img.ID)
	if err != nil {
		return pushed, fmt.Errorf("reading %s: %w", image, err)
	}

	if destination == "" {
		if found == img.ID {
			return pushed, fmt.Errorf("%s is an ID: name the destination", image)
		}
		destination = found
	}

	var release func() error
	if sys.BigFilesTemporaryDir, release, err = newSpool(o.spoolBase(st.GraphRoot())); err != nil {
		return pushed, err
	}
	defer func() { err = errors.Join(err, release()) }()
	if t, rest, err := transport(destination); err == nil && t != nil && t.Name() == istorage.Transport.Name() && o.Format == "" {
		return nameInStore(st, img, rest)
	}

	dest, err := destinationReference(ctx, st, destination)
	if err != nil {
		return pushed, err
	}
	if sys, err = o.Sources.admit(sys, dest); err != nil {
		return pushed, err
	}

	nameArchive(sys, dest, found)
	if dest.Transport().Name() == docker.Transport.Name() {
		wanted := cmp.Or(mediaType, storedType(st, img))
		dest = reusingReference{ImageReference: dest, st: st, allowed: o.allowedForms(wanted)}
	}

	raw, err := copyOut(ctx, src, dest, sys, mediaType, o)
	if err != nil {
		return pushed, hinted(fmt.Errorf("pushing %s to %s: %w", image, destination, err), destination)
	}

	if dest.Transport().Name() == docker.Transport.Name() {
		if err := recordPushed(st, img.TopLayer, raw); err != nil {
			return pushed, err
		}
		notePushed(st, img.ID, dest.DockerReference(), raw)
	}

	return describePushed(raw)
}

// storedType is the media type of the manifest of an image of the store.
func storedType(st cs.Store, img *cs.Image) string {
	raw, err := st.ImageBigData(img.ID, cs.ImageDigestBigDataKey)
	if err != nil {
		return ""
	}
	return manifest.GuessMIMEType(raw)
}

// CheckFormat refuses a manifest format that a destination cannot hold. The library would write a layout that cannot be
// read.
func CheckFormat(format, destination string) error {
	t, _, err := transport(destination)
	if err != nil || format == "" || t == nil {
		return err
	}

	mediaType, err := manifestType(format)
	if err != nil {
		return err
	}

	isOCI := mediaType == ocispec.MediaTypeImageManifest
	switch name := t.Name(); {
	case !isOCI && (name == ocilayout.Transport.Name() || name == ociarchive.Transport.Name()):
		return fmt.Errorf("%s: an OCI layout holds manifests of the format oci only", destination)
	case mediaType != manifest.DockerV2Schema2MediaType && name == dockerarchive.Transport.Name():
		return fmt.Errorf("%s: a docker-archive holds manifests of the format docker only", destination)
	case format == "v2s1" && name == istorage.Transport.Name():
		return fmt.Errorf("%s: the store has no images of the format v2s1", destination)
	}

	return nil
}

// nameInStore is a push of an image of the store to the store: the image gets the name.
func nameInStore(st cs.Store, img *cs.Image, name string) (pushed ocispec.Descriptor, err error) {
	named, err := normalizeTag(name)
	if err != nil {
		return pushed, err
	}
	if err := st.AddNames(img.ID, []string{named.String()}); err != nil {
		return pushed, fmt.Errorf("naming image %s: %w", img.ID, err)
	}

	raw, err := st.ImageBigData(img.ID, cs.ImageDigestBigDataKey)
	if err != nil {
		return pushed, fmt.Errorf("reading the manifest of image %s: %w", img.ID, err)
	}
	return describePushed(raw)
}

// describePushed is what a list of manifests would say of a manifest.
func describePushed(raw []byte) (ocispec.Descriptor, error) {
	sum, err := manifest.Digest(raw)
	return ocispec.Descriptor{MediaType: manifest.GuessMIMEType(raw), Digest: sum, Size: int64(len(raw))}, err
}

func copyOut(ctx context.Context, src, dest types.ImageReference, sys *types.SystemContext, mediaType string, o PushOptions) ([]byte, error) {
	if dest.Transport().Name() == ociarchive.Transport.Name() {
		return copyToArchive(ctx, src, dest, sys, mediaType, o)
	}

	policy, err := localPolicyContext()
	if err != nil {
		return nil, err
	}
	defer func() { _ = policy.Destroy() }() // fails only for a context in use

	var raw []byte
	err = o.withRetry(ctx, dest.StringWithinTransport(), func() error {
		return o.watched(ctx, func(ctx context.Context, _ chan types.ProgressProperties) (err error) {
			raw, err = imagecopy.Image(ctx, policy, dest, src, &imagecopy.Options{
				ReportWriter:          o.copyReport(),
				SourceCtx:             sys,
				DestinationCtx:        sys,
				ForceManifestMIMEType: mediaType,
				RemoveSignatures:      o.NoSignatures,
				// A format that was asked for is the one that is delivered.
				ForceCompressionFormat: o.CompressionFormat != "" && !o.AnyCompression,
			})
			return err
		})
	})

	return raw, err
}

func (o PushOptions) pushContext() (*types.SystemContext, error) {
	sys, err := o.systemContext()
	if err != nil {
		return nil, err
	}
	if sys.CompressionFormat, err = compressionOf(o.CompressionFormat); err != nil {
		return nil, err
	}
	sys.CompressionLevel = o.CompressionLevel

	// The library leaves layers in a directory (dir:) as they are, unless it is told otherwise.
	sys.DirForceCompress = sys.CompressionFormat != nil || o.CompressionLevel != nil
	return sys, nil
}

func manifestType(format string) (string, error) {
	switch format {
	case "":
		return "", nil
	case "oci":
		return ocispec.MediaTypeImageManifest, nil
	case "docker", "v2s2":
		return manifest.DockerV2Schema2MediaType, nil
	case "v2s1":
		return manifest.DockerV2Schema1SignedMediaType, nil
	}
	return "", fmt.Errorf("%q is no manifest format (oci, docker, v2s2, v2s1)", format)
}

// CheckCompression refuses a name that is no compression of layers.
func CheckCompression(format string) error {
	_, err := compressionOf(format)
	return err
}

// CheckCompressible refuses a destination whose layers cannot be compressed.
func CheckCompressible(destination string) error {
	t, _, err := transport(destination)
	if err != nil || t == nil {
		return err
	}
	switch t.Name() {
	case dockerarchive.Transport.Name():
		return fmt.Errorf("%s: layers in a docker-archive are not compressed: use an oci-archive", destination)
	case istorage.Transport.Name():
		return fmt.Errorf("%s: layers in the store are not compressed", destination)
	}
	return nil
}

// compressionOf is nil for the empty name.
func compressionOf(format string) (*compression.Algorithm, error) {
	if format == "" {
		return nil, nil
	}
	if !slices.Contains([]string{"gzip", "zstd", "zstd:chunked"}, format) {
		return nil, fmt.Errorf("compression format %q: choose gzip, zstd or zstd:chunked", format)
	}
	algorithm, err := compression.AlgorithmByName(format)
	if err != nil {
		return nil, fmt.Errorf("compression format %q: %w", format, err)
	}
	return &algorithm, nil
}

// IsRegistry reports whether a destination of a push, or a source of a pull, is in a registry.
func IsRegistry(name string) bool {
	t, _, err := transport(name)
	return err == nil && (t == nil || t.Name() == docker.Transport.Name())
}

// CheckDestination refuses a destination that Push could not understand.
func CheckDestination(destination string) error {
	t, rest, err := transport(destination)
	if err != nil {
		return err
	}
	if t == nil || t.Name() == istorage.Transport.Name() {
		return nil
	}
	if _, err := t.ParseReference(rest); err != nil {
		return fmt.Errorf("%s: %w", destination, err)
	}
	return nil
}

func destinationReference(ctx context.Context, st cs.Store, destination string) (types.ImageReference, error) {
	t, rest, err := transport(destination)
	if err != nil {
		return nil, err
	}

	if t == nil {
		t, rest = docker.Transport, "//"+destination
	}
	if t.Name() == istorage.Transport.Name() {
		named, err := normalizeTag(rest)
		if err != nil {
			return nil, err
		}
		ref, err := istorage.Transport.NewStoreReference(guard(ctx, st, Options{}), named, "")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", destination, err)
		}
		return ref, nil
	}

	ref, err := t.ParseReference(rest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", destination, err)
	}

	return ref, nil
}

// nameArchive gives an archive the name under which its image was found, unless the destination has one.
func nameArchive(sys *types.SystemContext, dest types.ImageReference, found string) {
	if dest.Transport().Name() == dockerarchive.Transport.Name() && dest.DockerReference() == nil {
		sys.DockerArchiveAdditionalTags = archiveTags(found)
	}
}

// archiveTags keeps the name of an image in an archive whose destination gave
// none, so that loading it gives the name back.
func archiveTags(found string) []reference.NamedTagged {
	if named, err := reference.ParseNamed(found); err == nil {
		if tagged, ok := named.(reference.NamedTagged); ok && !strings.Contains(found, "@") {
			return []reference.NamedTagged{tagged}
		}
	}
	return nil
}
