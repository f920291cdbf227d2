package layout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"

	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

var _ images.Store = (*Layout)(nil)

// Exists reports whether dir is a layout with an index that this user can read.
func Exists(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, ocispec.ImageIndexFile))
	return err == nil && info.Size() > 0
}

// ResolveImage implements [images.Store]. Of several images with one name, for different platforms,
// the oldest line counts.
func (l *Layout) ResolveImage(ref string) (images.Image, error) {
	match := func(k *kept) bool { return strings.HasPrefix(k.id, ref) }
	if _, err := reference.ParseNamed(ref); err == nil {
		match = func(k *kept) bool { return k.name() == ref }
	}

	k, err := l.find(match)
	if err != nil {
		return images.Image{}, err
	}
	if k == nil {
		return images.Image{}, fmt.Errorf("%s: %w", ref, images.ErrNotFound)
	}

	all, err := l.ListImages()
	if err != nil {
		return images.Image{}, err
	}
	for _, img := range all {
		if img.ID == k.id {
			img.Usage = images.Usage{}
			return img, nil
		}
	}
	return k.image(), nil
}

// image is the part of an [images.Image] that the line of the index and the manifest give.
func (k *kept) image() images.Image {
	return images.Image{ID: k.id, Digest: k.desc.Digest, Digests: []digest.Digest{k.desc.Digest}}
}

// ListImages implements [images.Store]. The order is that of the index: the oldest image first.
func (l *Layout) ListImages() ([]images.Image, error) {
	var out []images.Image
	_, err := l.find(func(k *kept) bool {
		i := slices.IndexFunc(out, func(img images.Image) bool { return img.ID == k.id })
		if i < 0 {
			i = len(out)
			out = append(out, l.listed(k))
		}
		if name := k.name(); name != "" {
			out[i].Names = append(out[i].Names, name)
		}
		return false
	})
	return out, err
}

// listed describes an image without its names. A config that cannot be read has no time.
func (l *Layout) listed(k *kept) images.Image {
	img := k.image()
	img.Created = time.Unix(0, 0)

	var config ocispec.Image
	data, err := l.readBlob(k.manifest.ConfigInfo().Digest)
	if err == nil && json.Unmarshal(data, &config) == nil && config.Created != nil {
		img.Created = *config.Created
	}

	for _, layer := range slices.Backward(k.manifest.LayerInfos()) {
		img.Size += max(layer.Size, 0)
		img.Layers = append(img.Layers, layer.Digest.String())
	}
	return img
}

// ReadImage implements [images.Store]. Sizes of layers are the sizes of their compressed blobs.
func (l *Layout) ReadImage(id string) (images.Content, error) {
	k, err := l.byID(id)
	if err != nil {
		return images.Content{}, err
	}
	config, err := l.readBlob(k.manifest.ConfigInfo().Digest)
	if err != nil {
		return images.Content{}, fmt.Errorf("reading the config of image %s: %w", id, err)
	}
	annotations, err := k.annotations()
	if err != nil {
		return images.Content{}, err
	}

	var c ocispec.Image
	if err := json.Unmarshal(config, &c); err != nil {
		return images.Content{}, fmt.Errorf("reading the config of image %s: %w", id, err)
	}
	content := images.Content{
		Config:       config,
		ConfigDigest: k.manifest.ConfigInfo().Digest,
		Manifest:     k.raw,
		Annotations:  annotations,
		Driver:       "oci",
	}
	for i, blob := range k.manifest.LayerInfos() {
		layer := images.Layer{Size: max(blob.Size, 0)}
		if i < len(c.RootFS.DiffIDs) {
			layer.DiffID = c.RootFS.DiffIDs[i]
		}
		content.Layers = append(content.Layers, layer)
	}
	return content, nil
}

// RemoveImage implements [images.Store]. The blobs that no image needs any more go as well, unless
// another process works with the layout; then the next RemoveImage removes them.
func (l *Layout) RemoveImage(id string, what images.Removal) error {
	if _, err := l.byID(id); err != nil {
		return err
	}

	err := l.change(func(list []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		var out []ocispec.Descriptor
		for _, d := range list {
			keep, err := l.afterRemoval(d, id, what.Name)
			if err != nil {
				return nil, err
			}
			if keep != nil {
				out = append(out, *keep)
			}
		}
		return forget(out), nil
	})
	if err != nil {
		return fmt.Errorf("removing image %s: %w", images.ShortID(id), err)
	}
	return l.removeBlobs()
}

// afterRemoval returns the line d of the index without the image id or, if name is given, without
// that name of the image; nil: the line goes.
func (l *Layout) afterRemoval(d ocispec.Descriptor, id, name string) (*ocispec.Descriptor, error) {
	raw, err := l.readBlob(d.Digest)
	if err != nil {
		return nil, err
	}
	k, err := describe(d, raw)
	if err != nil {
		return nil, err
	}

	switch {
	case k.id != id:
		return &d, nil
	case name == "":
		return nil, nil
	case k.name() != name:
		return &d, nil
	}
	d.Annotations = maps.Clone(d.Annotations)
	delete(d.Annotations, ocispec.AnnotationRefName)
	return &d, nil
}

// removeBlobs removes the blobs that no line of the index needs. It does nothing while another
// process uses the layout.
func (l *Layout) removeBlobs() (err error) {
	if l.use == nil {
		return nil
	}
	alone, err := fdfs.TryLock(l.use)
	if err != nil || !alone {
		return err
	}
	defer func() {
		_, shareErr := fdfs.TryShare(l.use)
		err = errors.Join(err, shareErr)
	}()

	needed := map[string]bool{}
	_, err = l.find(func(k *kept) bool {
		needed[k.desc.Digest.Encoded()] = true
		needed[k.manifest.ConfigInfo().Digest.Encoded()] = true
		for _, layer := range k.manifest.LayerInfos() {
			needed[layer.Digest.Encoded()] = true
		}
		return false
	})
	if err != nil {
		return err
	}

	blobs, err := os.ReadDir(l.blobs())
	if err != nil {
		return fmt.Errorf("removing unused blobs: %w", err)
	}
	for _, b := range blobs {
		if needed[b.Name()] {
			continue
		}
		if err := os.Remove(filepath.Join(l.blobs(), b.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing unused blobs: %w", err)
		}
	}
	return nil
}
