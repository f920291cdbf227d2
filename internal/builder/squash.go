package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/archive"
	"codeberg.org/rbuild/rbuild/internal/cache"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// squash makes one layer of all those of the target, the base's included (--squash). It is found again as long as the
// layers are the same. The base's history has gone already (stage.finish); of the steps' the last stands for the layer.
func (b *builder) squash(ctx context.Context, target *snapshot, layers []commit.Layer) ([]commit.Layer, error) {
	if len(layers) == 0 {
		return nil, nil
	}

	target.config.History = squashedHistory(target.config.History, target.config.Created, b.Plan.Target.Text)
	options := b.timeIngredients()
	ids := make([]string, 0, len(layers))
	for _, l := range layers {
		ids = append(ids, l.DiffID.String())
	}
	key := cache.ForSquash(ids, options)
	if !b.NoCache && !b.OneLayer && b.Plain == nil {
		if l, ok, err := cache.Lookup(b.Store, key, ""); ok || err != nil {
			for _, w := range b.recall(l).Warnings {
				b.warn(w)
			}
			return []commit.Layer{l.Layer}, err
		}
	}

	b.notice(fmt.Sprintf("squashing %d layers into one", len(layers)))
	if b.Plain != nil {
		l, err := b.flattenPlain(ctx, target)
		return []commit.Layer{l}, err
	}

	l, err := b.flattenInto(ctx, target, key)

	return []commit.Layer{l}, err
}

// flattenInto stores the target's files as one layer: its tar is written to a directory of the store while it is digested.
func (b *builder) flattenInto(ctx context.Context, target *snapshot, key cache.Key) (l commit.Layer, err error) {
	write, done, err := b.whole(ctx, target)
	if err != nil {
		return l, err
	}
	defer func() { err = gone(done(), err) }()

	staging, err := b.Store.NewStaging()
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, staging.Discard()) }()
	if err := target.root.shape(staging.Upper); err != nil {
		return l, err
	}

	tarSplit, err := fdfs.Memfd("tar-split")
	if err != nil {
		return l, err
	}

	o := b.flatOptions()
	o.TarSplit = tarSplit
	r, err := flatten(ctx, write, o, func(ctx context.Context, r io.Reader) error {
		dir, err := os.Open(staging.Upper)
		if err != nil {
			return err
		}
		return errors.Join(archive.ExtractImage(ctx, r, dir), dir.Close())
	})

	if err := gone(done(), err); err != nil {
		return l, errors.Join(err, tarSplit.Close())
	}

	kept := &keptNotes{}
	if text := leftOut(r); text != "" {
		kept.Warnings = []string{"--squash: " + text}
		b.warn(kept.Warnings[0])
	}

	content := commit.Content{DiffID: r.DiffID, Size: r.Size, TarSplit: tarSplit, RootMode: r.RootMode, Notes: kept.encode()}
	name := ""
	if !b.OneLayer {
		name = key.Name()
	}

	return staging.Commit(content, "", name)
}

// flatOptions are those of the layer that --squash makes.
func (b *builder) flatOptions() commit.TarOptions {
	o := commit.TarOptions{Below: &commit.RootDir{Mode: 0o755}, Owner: b.Owner, Sparse: b.sparseOutput}
	if b.FileTimes != KeepTimes {
		o.Epoch, o.Clamp = b.Epoch, b.FileTimes == ClampTimes
	}
	return o
}

// squashedHistory has the entries of all steps, the last as the one that made the layer.
func squashedHistory(steps []ocispec.History, created *time.Time, from string) []ocispec.History {
	if len(steps) == 0 {
		return []ocispec.History{{Created: created, CreatedBy: from}}
	}
	for i := range steps {
		steps[i].EmptyLayer = i < len(steps)-1
	}
	return steps
}
