// Package images is the seam between rbuild and the places where images are kept on this machine. A
// place is a [Store]:
//
//   - [codeberg.org/rbuild/rbuild/internal/images/containers] keeps images in containers/storage,
//     which podman and buildah share;
//   - [codeberg.org/rbuild/rbuild/internal/images/layout] keeps images in an OCI layout directory,
//     for builds that run without a user namespace.
//
// Commands such as rbuild tag find an image by the name that a person types ([Lookup]) and then
// call the Store that has it. A third place implements Store, and
// [codeberg.org/rbuild/rbuild/internal/transfer.Store] if it takes part in pull and push. Nothing
// else changes.
package images

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// Store keeps images. The methods may be called from several goroutines, and other processes may
// use the same store.
type Store interface {
	// ResolveImage returns the image that ref means: a full name with a tag or a digest
	// ("docker.io/library/alpine:3"), an image ID, or the beginning of exactly one image ID
	// ("3f5a"). An image whose layers are gone does not count. The error wraps [ErrNotFound] if no
	// image matches.
	ResolveImage(ref string) (Image, error)

	// ReadImage reads the documents of the image with this ID and verifies their digests. It does
	// not compare the layers with the config: that is [Content.Verify].
	ReadImage(id string) (Content, error)

	// PutImage records an image whose layers the store has. It returns the ID and the manifest of
	// the record.
	PutImage(n commit.Documents) (id string, manifest []byte, err error)

	// ListImages returns all images, in no particular order. Images with damaged documents are part
	// of the list.
	ListImages() ([]Image, error)

	// NameImage gives the image with this ID more names, and returns its manifest. An image that
	// has one of the names loses it. Without names the call only reads the manifest.
	NameImage(id string, names []string) (manifest []byte, err error)

	// RemoveImage removes the image with this ID, or one name of the image; see [Removal].
	RemoveImage(id string, what Removal) error
}

// Image is an entry of a Store.
type Image struct {
	ID           string        // 64 hexadecimal digits: the digest of the config, unless another image has that ID
	Names        []string      // full references, for example "docker.io/library/alpine:3"; empty: the image has no name
	NamesHistory []string      // names that the image had before, if the store knows them
	Created      time.Time     // when the image was made; the zero Unix time if the config does not say it
	Digest       digest.Digest // of the manifest with which the image was stored
	Digests      []digest.Digest
	TopLayer     string // ID of the topmost layer; "": no layers, or the store has no IDs of layers
	ReadOnly     bool   // the image is in a store that cannot be changed, such as an additional store

	Usage
}

// Usage is the part of an Image that costs a look at all layers. Only [Store.ListImages] fills it.
type Usage struct {
	Size   int64    // bytes of all layers. A layer that another image has too counts in both images
	Layers []string // what identifies the layers in this store, topmost first
	InUse  bool     // a container was made of the image
}

// Removal says what [Store.RemoveImage] removes. The zero value removes the image with all its
// names, and refuses an image that containers use with an [InUseError].
type Removal struct {
	Name  string // remove only this name and keep the image; "": remove the image
	Force bool   // remove the containers that use the image, unless they are mounted
}

// ErrNotFound says that a Store has no such image.
var ErrNotFound = errors.New("no such image in the store")

// ErrSeveral says that several images have the config by whose digest an image was looked for.
var ErrSeveral = errors.New("several images of the store have this config: use the ID or the name of the image")

// InUseError says that a container stands in the way of the removal of an image.
type InUseError struct {
	Image     string // ID
	Container string // ID
	Mounted   bool   // the container is mounted, so that it cannot be removed either
}

func (e *InUseError) Error() string {
	text := fmt.Sprintf("image %s is used by container %s", ShortID(e.Image), ShortID(e.Container))
	if e.Mounted {
		text += ", which is mounted"
	}
	return text
}

// DerivedID returns the ID of an image if another image with the same config has the digest of the
// config as its ID: 64 hexadecimal digits that follow from the digests of both documents, so that
// the same image has the same ID everywhere.
func DerivedID(config, manifest digest.Digest) string {
	sum := sha256.Sum256([]byte("rbuild-image\n" + config.String() + "\n" + manifest.String() + "\n"))
	return hex.EncodeToString(sum[:])
}

// ShortID returns the first 12 digits of an ID, as commands show it.
func ShortID(id string) string { return id[:min(12, len(id))] }

// Content is what a Store has of one image.
type Content struct {
	Config       []byte        // document, with the digest ConfigDigest
	ConfigDigest digest.Digest // as the manifest gives it
	Manifest     []byte        // document, as stored
	Annotations  map[string]string
	Layers       []Layer  // lowest first
	LayersErr    error    // why Layers is incomplete; nil: it is complete
	Origins      []Origin // manifests that registries have of the image, the latest first
	Directories  []string // of the layers on disk, topmost first; empty: the store has none
	Driver       string   // how the layers are kept, for example "overlay"
}

// Layer is a layer of an image.
type Layer struct {
	DiffID  digest.Digest // of the uncompressed tar; "": not known, because another tool pulled the layer in parts
	Size    int64         // bytes, as the store counts them
	Created time.Time     // when the store got the layer; zero: not known
}

// Origin is a manifest that a registry has of an image: the image was pulled from there, or pushed
// to it.
type Origin struct {
	Name   string        `json:"name"`   // full name, for example docker.io/library/alpine:3; "": no registry has it
	Digest digest.Digest `json:"digest"` // of the manifest, or of the list of manifests
}

// ErrOtherLayers says that the layers of an image in the store are not the layers that its config
// lists. An older podman accepts such an image from a registry.
var ErrOtherLayers = errors.New("its layers are not those of its config")

// Verify compares the layers with rootfs.diff_ids of the config (image-spec, config.md). The ID of
// an image is the digest of its config, so that an image whose layers differ is not the image that
// the ID stands for. That is [ErrOtherLayers]. Layers without a DiffID are accepted. name is the
// image in messages.
func (c Content) Verify(name string) error {
	if c.LayersErr != nil {
		return c.LayersErr
	}

	diffIDs := make([]digest.Digest, 0, len(c.Layers))
	for _, l := range c.Layers {
		diffIDs = append(diffIDs, l.DiffID)
	}
	return VerifyLayers(name, c.Config, diffIDs)
}

// VerifyLayers is [Content.Verify] for DiffIDs, lowest first.
func VerifyLayers(name string, config []byte, layers []digest.Digest) error {
	var c ocispec.Image
	if err := json.Unmarshal(config, &c); err != nil {
		return fmt.Errorf("reading the config of image %s: %w", name, err)
	}

	refuse := func(format string, args ...any) error {
		return fmt.Errorf("image %s: %w: %s: remove it (rbuild rmi %s) and pull or build it again",
			name, ErrOtherLayers, fmt.Sprintf(format, args...), name)
	}

	claimed := c.RootFS.DiffIDs
	if len(claimed) != len(layers) {
		return refuse("the config lists %d layers, the image has %d", len(claimed), len(layers))
	}
	for i, diffID := range layers {
		if diffID != "" && diffID != claimed[i] {
			return refuse("layer %d has the digest %s, the config says %s", i+1, diffID, claimed[i])
		}
	}
	return nil
}

// Digest returns the digest of an image's manifest as the registry of the full name has it. If that
// is not known, it is the digest of the last pull or push, and without any pull or push the digest
// of the stored manifest.
func Digest(origins []Origin, name string, stored digest.Digest) digest.Digest {
	for _, same := range []func(o Origin) bool{
		func(o Origin) bool { return o.Name == name },
		func(o Origin) bool { return repository(o.Name) == repository(name) },
		func(Origin) bool { return true },
	} {
		if i := slices.IndexFunc(origins, same); i >= 0 {
			return origins[i].Digest
		}
	}
	return stored
}

// RepoDigests returns the names by which registries give exactly this image, for example
// "docker.io/library/alpine@sha256:ab12…". The result is never nil.
func RepoDigests(origins []Origin) []string {
	digests := []string{}
	for _, o := range origins {
		if pinned := repository(o.Name) + "@" + o.Digest.String(); !slices.Contains(digests, pinned) {
			digests = append(digests, pinned)
		}
	}
	return digests
}

// SamePlatform reports whether an image for one platform runs on the other. A variant that one of
// them leaves out matches any variant.
func SamePlatform(is, want ocispec.Platform) bool {
	return is.OS == want.OS && is.Architecture == want.Architecture &&
		(is.Variant == want.Variant || is.Variant == "" || want.Variant == "")
}

// HostPlatform is the platform for which images are pulled if nobody names another.
func HostPlatform() ocispec.Platform {
	return ocispec.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}
}

// IsForeign reports whether programs for a platform are not for this host. The variant does not
// count.
func IsForeign(p ocispec.Platform) bool {
	return p.OS != runtime.GOOS || p.Architecture != runtime.GOARCH
}

// PlatformText writes a platform as OS/ARCH[/VARIANT], for example "linux/arm64".
func PlatformText(p ocispec.Platform) string {
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}
