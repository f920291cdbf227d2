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

// The manifest of an image in the store is not always the manifest that a registry has: a push compresses layers and may
// change the format. Therefore every pull and push notes beside the image which digest the registry has.

const (
	originsKey    = "rbuild-registries" // of an item of an image's data: a JSON list of images.Origin
	maxOrigins    = 64
	maxOriginsLen = 1 << 16 // bytes
)

// originsOf returns the manifests that registries are known to have of an image, the latest first. An image that was only
// built has none. If another tool pulled the image, the origins follow from its names and manifests.
func originsOf(st cs.Store, img *cs.Image) []images.Origin {
	return slices.DeleteFunc(allOrigins(st, img), func(o images.Origin) bool { return o.Name == "" })
}

// allOrigins are the origins, and with an empty name the digests that come from no registry.
func allOrigins(st cs.Store, img *cs.Image) []images.Origin {
	known := notedOrigins(st, img)
	own := img.BigDataDigests[cs.ImageDigestBigDataKey]
	if slices.ContainsFunc(known, func(o images.Origin) bool { return o.Digest == own }) || !looksPulled(st, img) {
		return known
	}

	digests := []digest.Digest{own}
	if known == nil {
		digests = append(digests, slices.DeleteFunc(slices.Clone(img.Digests), func(d digest.Digest) bool { return d == own })...)
	}
	for _, name := range img.Names {
		if strings.HasPrefix(name, "localhost/") || slices.ContainsFunc(known, func(o images.Origin) bool { return o.Name == name }) {
			continue
		}
		for _, d := range digests {
			known = append(known, images.Origin{Name: name, Digest: d})
		}
	}

	return known
}

// notedOrigins reads the item. It returns nil if the image has none.
func notedOrigins(st cs.Store, img *cs.Image) (known []images.Origin) {
	if !slices.Contains(img.BigDataNames, originsKey) {
		return nil
	}

	data, err := st.ImageBigData(img.ID, originsKey)
	if err == nil && len(data) <= maxOriginsLen {
		err = json.Unmarshal(data, &known)
	}
	if err != nil {
		logrus.Debugf("Reading where registries have image %s: %v", img.ID, err)
		return nil
	}
	return slices.DeleteFunc(known, func(o images.Origin) bool { return o.Digest.Validate() != nil })
}

// looksPulled reports whether the manifest has compressed layers, as in a registry. A build leaves them uncompressed.
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

// noteOrigin adds to an image that the registry of the name has the digests; with an empty name, that the digests come from
// no registry. Without the note the image is shown with the digest of its stored manifest, so that failing to write the
// note is no error.
func noteOrigin(st cs.Store, id, name string, digests ...digest.Digest) {
	img, err := st.Image(id)
	if err != nil {
		logrus.Debugf("Noting where a registry has image %s: %v", id, err)
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
	if err == nil {
		err = st.SetImageBigData(id, originsKey, data, nil)
	}
	if err != nil {
		logrus.Debugf("Noting where a registry has image %s: %v", id, err)
	}
}

// notePushed notes that a registry has the manifest under the name. The manifest is kept too, so that the image is found
// by the digest.
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
