package builder

import (
	"context"
	"reflect"

	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// recorder makes images of snapshots.
type recorder struct {
	build   *build
	images  commit.Images
	options ImageOptions
}

// record makes the image of the target, unless no image is wanted.
func (r *recorder) record(ctx context.Context, target *snapshot) (Result, error) {
	layers, err := target.stored(ctx)
	if err != nil {
		return Result{}, err
	}
	if r.options.None {
		return Result{}, nil
	}

	keep, err := r.isBase(target)
	if err != nil {
		return Result{}, err
	}
	if keep {
		kept, err := commit.Name(r.images, target.image.ID, r.options.Names)
		return Result{ID: kept.ID, Config: kept.Config, Manifest: kept.Manifest}, err
	}

	if r.build.options.Layers.Squash {
		if layers, err = r.build.squash(ctx, target, layers); err != nil {
			return Result{}, err
		}
	}

	image := r.options.edit(target.config, r.build.epoch)
	recorded, err := commit.Record(r.images, commit.Image{
		Config: image, Layers: layers, Annotations: r.options.Annotations.edit(target, image.Created), Format: r.options.Format,
		Names: r.options.Names, NoHistory: r.options.NoHistory, Blobs: target.image.Blobs,
	})
	if err != nil {
		var reads rootfs.Reads
		reads.Add(target.files)
		return Result{}, removedOr(reads.Check(), err)
	}
	return Result{ID: recorded.ID, Config: recorded.Config, Manifest: recorded.Manifest}, nil
}

// isBase reports whether the target is an image that existed before, and no option changes anything of it. Then the build
// gives that image its names, and makes none.
func (r *recorder) isBase(target *snapshot) (bool, error) {
	was, o := target.found, r.options
	switch {
	case was == nil, r.build.options.Layers.Squash, o.Stages.Describe, len(was.Config.OnBuild) > 0,
		len(o.Annotations.Set) > 0, o.Annotations.Created, o.Annotations.drops(target.image.Annotations),
		o.Labels.NoBase && len(was.Config.Labels) > 0, o.NoHistory && len(was.History) > 0:
		return false, nil
	}

	if same := reflect.DeepEqual(o.edit(*was, r.build.epoch), *was); !same || o.AnyFormat {
		return same, nil
	}

	manifest, err := r.images.NameImage(target.image.ID, nil)
	if err != nil {
		return false, err
	}
	format, err := commit.FormatOf(manifest)
	return format == o.Format, err
}
