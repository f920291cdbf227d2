package builder

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/pkg/commit"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
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

	place := b.place()
	keep, err := b.isBase(target)
	if err != nil {
		return Result{}, err
	}
	if keep {
		kept, err := commit.Name(place, target.origin.id, b.Image.Names)
		return Result{ID: kept.ID, Config: kept.Config, Manifest: kept.Manifest}, err
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

	recorded, err := commit.Record(place, commit.Image{
		Config: image, Layers: layers, Annotations: b.annotations(target, image.Created), Format: b.Image.Format, Names: b.Image.Names,
		NoHistory: b.Image.NoHistory, Blobs: b.plain.known(),
	})
	if err != nil {
		r := &reads{builder: b}
		r.add(target)
		return Result{}, gone(r.check(), err)
	}

	return Result{ID: recorded.ID, Config: recorded.Config, Manifest: recorded.Manifest}, b.keepNames(recorded.ID, layers)
}

// place is where the build's images are.
func (b *builder) place() commit.Images {
	if b.Plain != nil {
		return b.Plain
	}
	return b.Store
}

// isBase reports whether the target is an image that was there before, and no option changes anything of it. Then
// the build gives that image its names, and makes none.
func (b *builder) isBase(target *snapshot) (bool, error) {
	was := target.origin
	if was == nil || b.Flatten || b.Image.DescribeStages || len(b.Image.Annotations) > 0 || b.Image.CreatedNote || len(was.config.Config.OnBuild) > 0 ||
		b.Image.NoLabels && len(was.config.Config.Labels) > 0 || b.Image.NoHistory && len(was.config.History) > 0 ||
		b.Image.drops(target.annotations) {
		return false, nil
	}

	config := b.Image.edit(was.config)
	if b.Epoch != nil {
		created := b.Epoch.UTC()
		config.Created = &created
	}

	if same := reflect.DeepEqual(config, was.config); !same || b.Image.AnyFormat {
		return same, nil
	}

	manifest, err := b.place().NameImage(was.id, nil)
	if err != nil {
		return false, err
	}

	format, err := commit.FormatOf(manifest)

	return format == b.Image.Format, err
}

// annotations are those of the manifest of the target's image, made at the time created if that is known: the base's, then
// the default ones, so that the command line can replace or remove them.
func (b *builder) annotations(target *snapshot, created *time.Time) map[string]string {
	all := b.Image.inherited(target)
	if base := target.base; base.Digest != "" {
		all[ocispec.AnnotationBaseImageDigest] = base.Digest.String()
		if base.Name != "" {
			all[ocispec.AnnotationBaseImageName] = base.Name
		}
	}

	if b.Image.CreatedNote && created != nil {
		all[ocispec.AnnotationCreated] = created.Format(time.RFC3339Nano)
	}
	for _, key := range b.Image.UnsetAnnotations {
		delete(all, key)
	}
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
		if p.OS == image.OS {
			p.OSVersion, p.OSFeatures = image.OSVersion, image.OSFeatures
		}
		image.Platform = p
	}

	return o.system(image)
}

// keepNames gives the cache keys of this build's layers to those of the image's record, which are older but have the
// same content: they stay as long as the image, and are found by the next build.
func (b *builder) keepNames(id string, layers []commit.Layer) error {
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
		if i >= len(kept) || kept[i].ID == l.ID || kept[i].ReadOnly {
			continue
		}

		own, ok, err := b.Store.LayerByName(l.ID)
		if err != nil || !ok {
			return err
		}

		if own.Noted && !kept[i].Noted {
			if err := b.Store.CopyNotes(l.ID, kept[i].ID); err != nil {
				return err
			}
		}

		for _, name := range own.Names {
			if err := b.Store.NameLayer(kept[i].ID, name); err != nil {
				return err
			}
		}
	}

	return nil
}
