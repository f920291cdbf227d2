package containers

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/manifest"
	cs "go.podman.io/storage"

	"codeberg.org/rbuild/rbuild/internal/images"
)

// The manifest of an image in the store may differ from the manifest in a registry, because a push
// compresses layers and may change the format. Therefore every pull and push notes the digest in
// the registry beside the image.

const (
	originsKey    = "rbuild-registries" // of an item of an image's data: a JSON list of images.Origin
	maxOrigins    = 64
	maxOriginsLen = 1 << 16 // bytes
)

// originsOf returns the manifests that registries are known to have of an image, the latest first.
// An image that was only built has none. If another tool pulled the image, the origins follow from
// its names and manifests.
func originsOf(st cs.Store, img *cs.Image) []images.Origin {
	return slices.DeleteFunc(allOrigins(st, img), func(o images.Origin) bool { return o.Name == "" })
}

// allOrigins returns the origins, and entries with an empty name for the digests that come from no
// registry.
func allOrigins(st cs.Store, img *cs.Image) []images.Origin {
	known := notedOrigins(st, img)
	own := img.BigDataDigests[cs.ImageDigestBigDataKey]
	if slices.ContainsFunc(known, func(o images.Origin) bool { return o.Digest == own }) || !looksPulled(st, img) {
		return known
	}

	digests := []digest.Digest{own}
	if known == nil {
		others := slices.DeleteFunc(slices.Clone(img.Digests), func(d digest.Digest) bool { return d == own })
		digests = append(digests, others...)
	}
	for _, name := range img.Names {
		noted := slices.ContainsFunc(known, func(o images.Origin) bool { return o.Name == name })
		if noted || strings.HasPrefix(name, "localhost/") {
			continue
		}
		for _, d := range digests {
			known = append(known, images.Origin{Name: name, Digest: d})
		}
	}

	return known
}

// notedOrigins reads the item of the image's data; nil: there is none, or it cannot be read.
func notedOrigins(st cs.Store, img *cs.Image) (known []images.Origin) {
	if !slices.Contains(img.BigDataNames, originsKey) {
		return nil
	}

	data, err := st.ImageBigData(img.ID, originsKey)
	if err != nil {
		logrus.Debugf("Reading the origins of image %s: %v", img.ID, err)
		return nil
	}
	if len(data) > maxOriginsLen {
		return nil
	}
	if err := json.Unmarshal(data, &known); err != nil {
		logrus.Debugf("Reading the origins of image %s: %v", img.ID, err)
		return nil
	}
	return slices.DeleteFunc(known, func(o images.Origin) bool { return o.Digest.Validate() != nil })
}

// looksPulled reports whether the manifest has compressed layers, as in a registry. A build stores
// layers uncompressed.
func looksPulled(st cs.Store, img *cs.Image) bool {
	raw, err := st.ImageBigData(img.ID, cs.ImageDigestBigDataKey)
	if err != nil {
		return false
	}

	m, err := manifest.FromBlob(raw, manifest.GuessMIMEType(raw))
	if err != nil {
		return false
	}

	layers := m.LayerInfos()
	return len(layers) > 0 && !slices.ContainsFunc(layers, func(l manifest.LayerInfo) bool {
		return !images.IsCompressed(l.MediaType)
	})
}

// noteOrigin notes beside an image that the registry of a name has the image with these digests;
// with the name "", that the digests come from no registry. Without the note the image is shown
// with the digest of its stored manifest, so that an error is not reported.
func noteOrigin(st cs.Store, id, name string, digests ...digest.Digest) {
	img, err := st.Image(id)
	if err != nil {
		logrus.Debugf("Noting an origin of image %s: %v", id, err)
		return
	}

	known := allOrigins(st, img)
	if notedOrigins(st, img) == nil { // this pull gave the image its name, too
		known = slices.DeleteFunc(known, func(o images.Origin) bool { return name == "" || o.Name == name })
	}
	for _, d := range slices.Backward(digests) {
		origin := images.Origin{Name: name, Digest: d}
		known = append([]images.Origin{origin}, slices.DeleteFunc(known, func(o images.Origin) bool { return o == origin })...)
	}

	data, err := json.Marshal(known[:min(len(known), maxOrigins)])
	if err != nil {
		logrus.Debugf("Noting an origin of image %s: %v", id, err)
		return
	}
	if err := st.SetImageBigData(id, originsKey, data, nil); err != nil {
		logrus.Debugf("Noting an origin of image %s: %v", id, err)
	}
}

// notePushed notes that a registry has the manifest under the name. The store keeps the manifest
// too, so that the image is found by the digest.
func notePushed(st cs.Store, id string, name reference.Named, raw []byte) {
	sum, err := manifest.Digest(raw)
	if err != nil {
		logrus.Debugf("Noting what was pushed as %s: %v", name, err)
		return
	}

	if mediaType := manifest.GuessMIMEType(raw); mediaType != manifest.DockerV2Schema1MediaType &&
		mediaType != manifest.DockerV2Schema1SignedMediaType {
		key := cs.ImageDigestManifestBigDataNamePrefix + "-" + sum.String()
		if err := st.SetImageBigData(id, key, raw, manifest.Digest); err != nil {
			logrus.Debugf("Keeping manifest %s of image %s: %v", sum, id, err)
		}
	}

	noteOrigin(st, id, name.String(), sum)
}
