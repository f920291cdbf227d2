package containers

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	"go.podman.io/image/v5/manifest"
	cs "go.podman.io/storage"

	"codeberg.org/rbuild/rbuild/internal/images"
)

// CreateImage refuses an image whose config does not describe its layers. It never changes the
// manifest of an image of the store. The library would replace the manifest of an image with the
// same config, so that the names of that image would get another digest.
func (g *guardedStore) CreateImage(id string, names []string, layer, metadata string, options *cs.ImageOptions) (*cs.Image, error) {
	if options == nil {
		return g.Store.CreateImage(id, names, layer, metadata, options)
	}
	if err := g.checkImage(layer, options.BigData); err != nil {
		return nil, err
	}

	docs, ok := documentsOf(options.BigData)
	if !ok { // a manifest of schema 1
		img, err := g.Store.CreateImage(id, names, layer, metadata, options)
		if err == nil || errors.Is(err, cs.ErrDuplicateID) {
			g.image = id
		}
		return img, err
	}

	img, err := g.findOrCreate(docs, layer, metadata, options)
	if err != nil {
		return nil, err
	}

	g.mu.Lock()
	defer g.mu.Unlock()

	g.image, g.manifests = img.ID, docs.manifests

	return img, nil
}

// documents are the digests of the documents of a new image.
type documents struct {
	config    digest.Digest
	manifests []digest.Digest // the image's own, and the list that it was chosen from
}

func documentsOf(data []cs.ImageBigDataOption) (d documents, ok bool) {
	for _, item := range data {
		if item.Key != cs.ImageDigestBigDataKey {
			continue
		}
		m, err := manifest.FromBlob(item.Data, manifest.GuessMIMEType(item.Data))
		if err != nil {
			return d, false
		}
		d.config, d.manifests = m.ConfigInfo().Digest, []digest.Digest{item.Digest}
	}

	for _, item := range data {
		if strings.HasPrefix(item.Key, cs.ImageDigestManifestBigDataNamePrefix+"-") && !slices.Contains(d.manifests, item.Digest) {
			d.manifests = append(d.manifests, item.Digest)
		}
	}

	return d, d.config.Validate() == nil && len(d.manifests) > 0
}

// createTries bounds the attempts to create an image while other processes create images with the
// same config.
const createTries = 5

func (g *guardedStore) findOrCreate(d documents, layer, metadata string, options *cs.ImageOptions) (img *cs.Image, err error) {
	for range createTries {
		twins, err := twinsOf(g.Store, d.config)
		if err != nil {
			return nil, err
		}

		for i := range twins {
			if img := &twins[i]; g.isImage(img, d.manifests[0]) {
				return img, g.complete(img, layer, metadata, options)
			}
		}

		id, err := recordID(g.Store, d.config, d.manifests[0])
		if err != nil {
			return nil, err
		}

		img, err = g.Store.CreateImage(id, nil, sharedTop(g.Store, twins, layer), metadata, options)
		if err == nil {
			g.mu.Lock()
			g.created[img.ID] = true
			g.mu.Unlock()
		}

		if !errors.Is(err, cs.ErrDuplicateID) { // else another process was quicker
			return img, err
		}
	}

	return img, err
}

// isImage reports whether an image has a manifest: as its stored manifest, or as the manifest that
// a push made of the image.
func (g *guardedStore) isImage(img *cs.Image, sum digest.Digest) bool {
	if img.BigDataDigests[cs.ImageDigestBigDataKey] == sum {
		return true
	}
	return slices.ContainsFunc(notedOrigins(g.Store, img), func(o images.Origin) bool { return o.Name != "" && o.Digest == sum })
}

// complete adds the list of manifests and the signatures of a pull to an image of the store.
func (g *guardedStore) complete(img *cs.Image, layer, metadata string, options *cs.ImageOptions) error {
	if err := verifyImage(g.Store, img.ID); err != nil {
		return err
	}
	if !sameLayers(g.Store, img.TopLayer, layer) {
		return fmt.Errorf("the store has image %s with other layers than its config says: remove it, and pull it again", img.ID)
	}

	own := false
	for _, item := range options.BigData {
		if item.Key == cs.ImageDigestBigDataKey {
			own = img.BigDataDigests[item.Key] == item.Digest
		}
	}

	for _, item := range options.BigData {
		isList := strings.HasPrefix(item.Key, cs.ImageDigestManifestBigDataNamePrefix+"-")
		isSignature := strings.HasPrefix(item.Key, "signature") && own
		if !isList && !isSignature {
			continue
		}
		if err := g.SetImageBigData(img.ID, item.Key, item.Data, manifest.Digest); err != nil {
			return fmt.Errorf("completing image %s: %w", img.ID, err)
		}
	}

	if !own || metadata == "" { // the metadata are the sizes of the signatures
		return nil
	}
	if err := g.SetMetadata(img.ID, metadata); err != nil {
		return fmt.Errorf("completing image %s: %w", img.ID, err)
	}

	return nil
}

// DeleteImage is called for an image that could not be stored completely. An image that the store
// had before stays.
func (g *guardedStore) DeleteImage(id string, commit bool) ([]string, error) {
	g.mu.Lock()
	created := g.created[id]
	g.mu.Unlock()
	if !created {
		logrus.Debugf("Image %s was in the store before, and stays", id)
		return nil, nil
	}
	return g.Store.DeleteImage(id, commit)
}
