package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
	"go.podman.io/image/v5/docker/reference"
	istorage "go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/types"
	cs "go.podman.io/storage"

	"codeberg.org/rbuild/rbuild/internal/images"
)

// SpoolDir is the directory for the temporary files of copies, below the graph root.
func (s *Store) SpoolDir() string { return filepath.Join(s.GraphRoot(), "tmp") }

// Receive begins to store an image that package transfer copies: every layer passes through the
// checks of a guardedStore.
//
// A name of the store belongs to one image, and that is the image for the host's platform, because
// other tools run it. An image that is pulled by name for another platform is therefore stored
// without the name, unless in.KeepName is set, and the store notes the name beside the image.
func (s ImageStore) Receive(ctx context.Context, in images.Incoming) (images.Receiver, error) {
	r := &receiver{lib: s.layers.storage, in: in}
	name := in.Name
	if in.Foreign && !in.KeepName {
		name = nil
	}

	id := ""
	if name == nil {
		config, manifest, err := in.Peek(ctx)
		if err != nil {
			return nil, err
		}
		have, err := stored(s.layers.storage, config, manifest)
		if err != nil {
			return nil, err
		}
		if have != nil {
			r.have = have.ID
			r.manifest = manifest
			return r, nil
		}
		id = config.Encoded()
	}

	r.guarded = guard(ctx, s.layers.storage, in)
	ref, err := istorage.Transport.NewStoreReference(r.guarded, name, id)
	if err != nil {
		return nil, fmt.Errorf("making a reference to the store: %w", err)
	}
	r.ref = ref
	return r, nil
}

// stored finds the image with this config and manifest in the store. It returns nil if there is
// none, or its layers are gone.
func stored(lib cs.Store, config, sum digest.Digest) (*cs.Image, error) {
	twins, err := twinsOf(lib, config)
	if err != nil {
		return nil, err
	}
	for i, img := range twins {
		if img.BigDataDigests[cs.ImageDigestBigDataKey] == sum && hasLayers(lib, &img) {
			return &twins[i], nil
		}
	}
	return nil, nil
}

// receiver is the [images.Receiver] of a Store.
type receiver struct {
	lib     cs.Store
	in      images.Incoming
	guarded *guardedStore
	ref     types.ImageReference

	have     string        // ID of the image, if the store has it already
	manifest digest.Digest // of that image
}

func (r *receiver) Reference() types.ImageReference { return r.ref }

func (r *receiver) Finish() (string, error) {
	id := r.have
	switch {
	case r.ref == nil:
		if r.in.Registry != "" {
			noteOrigin(r.lib, id, r.in.Registry, r.manifest)
		}
	case r.guarded.image == "":
		return "", images.ErrNotFound
	default:
		id = r.guarded.image
		if r.in.Registry != "" || r.guarded.created[id] {
			noteOrigin(r.lib, id, r.in.Registry, r.guarded.manifests...)
		}
	}

	if r.in.Foreign && r.in.Name != nil {
		recordPulled(r.lib, id, r.in.Name, r.in.Platform)
	}
	return id, nil
}

// Send gives the image with this ID to a push, after a check of its layers.
func (s ImageStore) Send(id string) (images.Sender, error) {
	if err := verifyImage(s.layers.storage, id); err != nil {
		return nil, err
	}
	img, err := s.layers.storage.Image(id)
	if err != nil {
		return nil, fmt.Errorf("reading image %s: %w", id, err)
	}
	ref, err := istorage.Transport.NewStoreReference(s.layers.storage, nil, id)
	if err != nil {
		return nil, fmt.Errorf("reading image %s: %w", id, err)
	}
	return &sender{lib: s.layers.storage, img: img, ref: ref}, nil
}

// sender is the [images.Sender] of a Store.
type sender struct {
	lib cs.Store
	img *cs.Image
	ref types.ImageReference
}

func (s *sender) Reference() types.ImageReference { return s.ref }

func (s *sender) Into(dest types.ImageReference, compressions []string) types.ImageReference {
	return reusingReference{ImageReference: dest, lib: s.lib, allowed: compressions}
}

func (s *sender) Sent(name reference.Named, manifest []byte) error {
	if err := recordPushed(s.lib, s.img.TopLayer, manifest); err != nil {
		return err
	}
	notePushed(s.lib, s.img.ID, name, manifest)
	return nil
}

// StoreReference returns the destination of a push that puts a copy of an image, in another format,
// into this store.
func (s ImageStore) StoreReference(ctx context.Context, named reference.Named) (types.ImageReference, error) {
	return istorage.Transport.NewStoreReference(guard(ctx, s.layers.storage, images.Incoming{Platform: images.HostPlatform()}), named, "")
}

// FindFor finds the image that the first known of several full names means on a platform, and that
// name. If the store has the name only for another platform, the error wraps [images.ErrNotFound],
// and other is that platform, for example "linux/arm64".
func (s ImageStore) FindFor(names []reference.Named, want ocispec.Platform) (img images.Image, found, other string, err error) {
	for _, name := range names {
		lib, err := s.byName(name)
		if errors.Is(err, images.ErrNotFound) {
			continue
		}
		if err != nil {
			return images.Image{}, "", "", err
		}

		same, is := isFor(s.layers.storage, lib, want)
		if same {
			return fromLibraryImage(lib), name.String(), "", nil
		}
		found = name.String()
		other = is
		break
	}

	if images.IsForeign(want) {
		for _, name := range names {
			if lib := pulledFor(s.layers.storage, name.String(), want); lib != nil {
				return fromLibraryImage(lib), name.String(), "", nil
			}
		}
	}
	return images.Image{}, found, other, images.ErrNotFound
}

// pulledFor finds the image that was pulled by a full name for a platform that is not the host's;
// nil: there is none.
func pulledFor(lib cs.Store, name string, want ocispec.Platform) *cs.Image {
	for id, names := range pulledNames(lib) {
		if !slices.Contains(names, name) {
			continue
		}
		img, err := lib.Image(id)
		if err != nil || !hasLayers(lib, img) {
			continue
		}
		if same, _ := isFor(lib, img, want); same {
			return img
		}
	}
	return nil
}

// isFor reports whether an image is for the platform, and the platform that its config gives. An
// image whose config does not say a platform is for every platform.
func isFor(lib cs.Store, img *cs.Image, want ocispec.Platform) (same bool, is string) {
	config, err := configDigest(lib, img)
	if err != nil {
		return true, ""
	}

	var platform ocispec.Platform
	data, err := lib.ImageBigData(img.ID, config.String())
	if err != nil || json.Unmarshal(data, &platform) != nil || platform.OS == "" || platform.Architecture == "" {
		return true, ""
	}
	return images.SamePlatform(platform, want), images.PlatformText(platform)
}

// pulledAs is the key of an item of an image's data: the full names by which the image was pulled
// for a platform that is not the host's, a line each.
const pulledAs = "rbuild-pulled-as"

// pulledNames returns the names by which images were pulled, by the ID of the image.
func pulledNames(lib cs.Store) map[string][]string {
	all, err := lib.Images()
	if err != nil {
		logrus.Debugf("Listing images: %v", err)
	}

	out := map[string][]string{}
	for _, img := range all {
		if !slices.Contains(img.BigDataNames, pulledAs) {
			continue
		}
		if data, err := lib.ImageBigData(img.ID, pulledAs); err == nil {
			out[img.ID] = strings.Fields(string(data))
		}
	}
	return out
}

// recordPulled notes that the name means this image on the platform from now on. Without the note
// the next pull copies the image again, so that an error is not reported.
func recordPulled(lib cs.Store, id string, name reference.Named, want ocispec.Platform) {
	known := pulledNames(lib)
	for other, names := range known {
		img, err := lib.Image(other)
		if err != nil || other == id || !slices.Contains(names, name.String()) {
			continue
		}
		if same, _ := isFor(lib, img, want); same {
			writePulled(lib, other, slices.DeleteFunc(names, func(n string) bool { return n == name.String() }))
		}
	}

	if !slices.Contains(known[id], name.String()) {
		writePulled(lib, id, append(known[id], name.String()))
	}
}

func writePulled(lib cs.Store, id string, names []string) {
	if err := lib.SetImageBigData(id, pulledAs, []byte(strings.Join(names, "\n")), nil); err != nil {
		logrus.Debugf("Noting the names that image %s was pulled by: %v", id, err)
	}
}
