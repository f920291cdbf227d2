package build

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/pkg/commit"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
	"codeberg.org/rbuild/rbuild/pkg/store"
)

// record makes the image of the target, unless none is wanted.
func (b *builder) record(ctx context.Context, target *snapshot) (Result, error) {
	layers, err := target.stored(ctx)
	if err != nil {
		return Result{}, err
	}
	if b.NoImage {
		return Result{}, nil
	}
	if b.Flatten {
		if layers, err = b.squash(ctx, target, layers); err != nil {
			return Result{}, err
		}
	}
	image := b.Image.edit(target.config)
	if b.Epoch != nil {
		created := b.Epoch.UTC()
		image.Created = &created
	}
	var place commit.Images = b.Store
	if b.Plain != nil {
		place = b.Plain
	}
	recorded, err := commit.Image(place, commit.ImageSpec{
		Image: image, Layers: layers, Annotations: b.annotations(image.Created), Format: b.Image.Format, Names: b.Image.Names,
		NoHistory: b.Image.NoHistory, Blobs: b.plain.known(),
	})
	if err != nil {
		r := &reads{builder: b}
		r.add(target)
		return Result{}, gone(r.check(), err)
	}
	if len(recorded.Shared) > 0 {
		b.warn(fmt.Sprintf("this image has the same config as %s: in the store they are one image, with the annotations and "+
			"the format of this build", strings.Join(recorded.Shared, ", ")))
	}
	return Result{ID: recorded.ID, Manifest: recorded.Manifest}, b.keepNames(recorded.ID, layers)
}

// annotations are those of the manifest of an image that was made at the time created, if that is known.
func (b *builder) annotations(created *time.Time) map[string]string {
	if !b.Image.CreatedNote || created == nil {
		return b.Image.Annotations
	}
	all := map[string]string{ocispec.AnnotationCreated: created.Format(time.RFC3339Nano)}
	maps.Copy(all, b.Image.Annotations)
	return all
}

// edit does to the config what the command line says.
func (o ImageOptions) edit(image instructions.Image) instructions.Image {
	labels := maps.Clone(image.Config.Labels)
	if labels == nil && len(o.Labels) > 0 {
		labels = map[string]string{}
	}
	for _, l := range o.Labels {
		labels[l.Key] = l.Value
	}
	for _, key := range o.UnsetLabels {
		delete(labels, key)
	}
	image.Config.Labels = labels
	image.Config.Env = slices.DeleteFunc(slices.Clone(image.Config.Env), func(kv string) bool {
		key, _, _ := strings.Cut(kv, "=")
		return slices.Contains(o.UnsetEnv, key)
	})
	if p := o.Platform; p.OS != "" {
		if p.Variant == "" && p.OS == image.OS && p.Architecture == image.Architecture {
			p.Variant = image.Variant
		}
		image.Platform = p
	}
	return image
}

// keepNames gives the cache keys of this build's layers to those of the image's record, which are older but have the
// same content: they stay as long as the image, and are found by the next build.
func (b *builder) keepNames(id string, layers []store.Layer) error {
	if b.Plain != nil {
		return nil
	}
	img, err := b.Store.Image(id)
	if err != nil {
		return err
	}
	if len(layers) == 0 || img.TopLayer == layers[len(layers)-1].ID {
		return nil
	}
	kept, err := b.Store.Layers(img)
	if err != nil {
		return err
	}
	for i, l := range layers {
		if i >= len(kept) || kept[i].ID == l.ID {
			continue
		}
		own, ok, err := b.Store.LayerByName(l.ID)
		if err != nil || !ok {
			return err
		}
		for _, name := range own.Names {
			if err := b.Store.NameLayer(kept[i].ID, name); err != nil {
				return err
			}
		}
	}
	return nil
}
