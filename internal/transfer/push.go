package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	imagecopy "go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/docker"
	dockerarchive "go.podman.io/image/v5/docker/archive"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/manifest"
	ociarchive "go.podman.io/image/v5/oci/archive"
	ocilayout "go.podman.io/image/v5/oci/layout"
	istorage "go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/types"

	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/images/spool"
)

// PushOptions are the Options of a push and the form of the image at the destination. The zero
// value keeps the format of the manifest and compresses with gzip.
type PushOptions struct {
	Options
	Format            string // manifest: "oci", "docker" (or "v2s2"), "v2s1"; empty: as stored
	CompressionFormat string // a name of images.Compressions; "": gzip, and layers that the destination has in any form
	CompressionLevel  *int   // of that format; nil: its default
	AnyCompression    bool   // a layer that the destination has is not sent again, whatever its form is
}

// Push copies an image of the store, found as by images.Lookup, to destination: a name with a
// transport, or a name in a registry. An empty destination means the registry that the image is
// named after. Push returns the descriptor of the manifest at the destination.
//
// Layers are compressed on the way, unless the destination has them already: the digests of layers
// that were pulled or pushed before are known, so that these layers are not compressed again.
func Push(ctx context.Context, st Store, image, destination string, o PushOptions) (pushed ocispec.Descriptor, err error) {
	sys, err := o.pushContext()
	if err != nil {
		return pushed, err
	}
	mediaType, err := manifestType(o.Format)
	if err != nil {
		return pushed, err
	}

	img, found, err := images.Lookup(st, image, o.Names)
	if err != nil {
		return pushed, err
	}
	src, err := st.Send(img.ID)
	if err != nil {
		return pushed, err
	}
	if destination == "" {
		if found == img.ID {
			return pushed, fmt.Errorf("%s is an ID: name the destination", image)
		}
		destination = found
	}

	dest, err := destinationReference(ctx, st, destination)
	if err != nil {
		return pushed, err
	}
	if isStore(dest.Transport()) && o.Format == "" { // the store has the image already
		raw, err := st.NameImage(img.ID, []string{dest.DockerReference().String()})
		if err != nil {
			return pushed, err
		}
		return describe(raw)
	}
	if sys, err = o.Sources.admit(sys, dest); err != nil {
		return pushed, err
	}

	var release func() error
	if sys.BigFilesTemporaryDir, release, err = spool.New(o.spoolDir(st)); err != nil {
		return pushed, err
	}
	defer func() { err = errors.Join(err, release()) }()
	nameArchive(sys, dest, found)
	to := dest
	if isRegistry(dest.Transport()) {
		wanted := cmp.Or(mediaType, storedType(st, img.ID))
		to = src.Into(dest, o.allowedForms(wanted))
	}

	raw, err := copyOut(ctx, src.Reference(), to, sys, mediaType, o)
	if err != nil {
		return pushed, images.Hinted(fmt.Errorf("pushing %s to %s: %w", image, destination, err), destination)
	}
	if isRegistry(dest.Transport()) {
		if err := src.Sent(dest.DockerReference(), raw); err != nil {
			return pushed, err
		}
	}
	return describe(raw)
}

// storedType returns the media type of the manifest of an image of the store; "": not known.
func storedType(st Store, id string) string {
	raw, err := st.NameImage(id, nil)
	if err != nil {
		return ""
	}
	return manifest.GuessMIMEType(raw)
}

// allowedForms returns the compressions of layers that may be reused for a push of an image whose
// manifest has this media type.
func (o PushOptions) allowedForms(mediaType string) []string {
	isDocker := strings.HasPrefix(mediaType, "application/vnd.docker.")
	anyForm := o.AnyCompression || o.CompressionFormat == "" && o.CompressionLevel == nil
	wanted, _ := images.CompressionByName(o.CompressionFormat) // checked by pushContext
	return images.CompressionNames(func(c images.Compression) bool {
		switch {
		case !c.Plain():
			return false
		case isDocker:
			return c.Docker
		case anyForm:
			return true
		}
		return c.Algorithm.Name() == wanted.Algorithm.Name()
	})
}

// CheckFormat refuses a manifest format that a destination cannot hold. The library would write a
// layout that no tool can read.
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

// describe returns the descriptor of a manifest, as a list of manifests has it.
func describe(raw []byte) (ocispec.Descriptor, error) {
	sum, err := manifest.Digest(raw)
	return ocispec.Descriptor{MediaType: manifest.GuessMIMEType(raw), Digest: sum, Size: int64(len(raw))}, err
}

func copyOut(
	ctx context.Context, src, dest types.ImageReference, sys *types.SystemContext, mediaType string, o PushOptions,
) ([]byte, error) {
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
				// If the user names a format, layers that the destination has in another format are
				// sent again.
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
	if err := o.setCompression(sys); err != nil {
		return nil, err
	}

	// Without this the library does not compress layers in a directory (dir:).
	sys.DirForceCompress = sys.CompressionFormat != nil || o.CompressionLevel != nil
	return sys, nil
}

// setCompression leaves the format to the library if none is given.
func (o PushOptions) setCompression(sys *types.SystemContext) error {
	sys.CompressionLevel = o.CompressionLevel
	if o.CompressionFormat == "" {
		return nil
	}
	c, err := images.CompressionByName(o.CompressionFormat)
	if err != nil {
		return err
	}
	sys.CompressionFormat = &c.Algorithm
	return nil
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

func destinationReference(ctx context.Context, st Store, destination string) (types.ImageReference, error) {
	t, rest, err := transport(destination)
	if err != nil {
		return nil, err
	}
	if t == nil {
		t = docker.Transport
		rest = "//" + destination
	}

	if isStore(t) {
		named, err := images.NormalizePlainTag(rest)
		if err != nil {
			return nil, err
		}
		return st.StoreReference(ctx, named)
	}

	ref, err := t.ParseReference(rest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", destination, err)
	}
	return ref, nil
}

// nameArchive gives an archive the name by which the image was found, unless the destination has a
// name.
func nameArchive(sys *types.SystemContext, dest types.ImageReference, found string) {
	if dest.Transport().Name() == dockerarchive.Transport.Name() && dest.DockerReference() == nil {
		sys.DockerArchiveAdditionalTags = archiveTags(found)
	}
}

// archiveTags returns the name of an image for an archive whose destination has no name, so that
// loading the archive restores the name.
func archiveTags(found string) []reference.NamedTagged {
	if named, err := reference.ParseNamed(found); err == nil {
		if tagged, ok := named.(reference.NamedTagged); ok && !strings.Contains(found, "@") {
			return []reference.NamedTagged{tagged}
		}
	}
	return nil
}
