package transfer

import (
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// KeptImage is an image of a layout.
type KeptImage struct {
	ID     string
	Names  []string      // full names; empty: none
	Digest digest.Digest // of the manifest
	Config ocispec.Image
	Size   int64 // bytes of the layers as they are kept
}

// ListLayout lists the images of the layout dir, in the order in which they came. A layout that does not exist has none. An
// image that cannot be read is left out.
func ListLayout(dir string) ([]KeptImage, error) {
	l := &Layout{dir: dir}
	index, err := readBounded(filepath.Join(dir, ocispec.ImageIndexFile))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || len(index) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}

	var out []KeptImage
	_, err = l.find(func(k *kept) bool {
		name := k.name()
		i := slices.IndexFunc(out, func(img KeptImage) bool { return img.ID == k.id })
		if i < 0 {
			img := KeptImage{ID: k.id, Digest: k.desc.Digest}
			if config, err := l.readBlob(k.manifest.ConfigInfo().Digest); err == nil {
				_ = json.Unmarshal(config, &img.Config) // an unreadable config has no time and no labels
			}
			for _, layer := range k.manifest.LayerInfos() {
				img.Size += max(layer.Size, 0)
			}
			i, out = len(out), append(out, img)
		}

		if name != "" {
			out[i].Names = append(out[i].Names, name)
		}
		return false
	})

	return out, err
}
