package build

import (
	"context"
	"maps"

	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// record makes the image of the target.
func (b *builder) record(ctx context.Context, target *snapshot) (Result, error) {
	layers, err := target.stored(ctx)
	if err != nil {
		return Result{}, err
	}
	image := target.config
	if len(b.Image.Labels) > 0 {
		image.Config.Labels = maps.Clone(image.Config.Labels)
		if image.Config.Labels == nil {
			image.Config.Labels = map[string]string{}
		}
		for _, l := range b.Image.Labels {
			image.Config.Labels[l.Key] = l.Value
		}
	}
	if b.Epoch != nil {
		created := b.Epoch.UTC()
		image.Created = &created
	}
	id, digest, err := commit.Image(b.Store, commit.ImageSpec{
		Image: image, Layers: layers, Annotations: b.Image.Annotations, Format: b.Image.Format, Names: b.Image.Names,
	})
	return Result{ID: id, Digest: digest}, err
}
