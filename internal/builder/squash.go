package builder

import (
	"context"
	"fmt"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/archive"
	"codeberg.org/rbuild/rbuild/internal/cache"
	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// squash makes one layer of all layers of the target, those of the base included (--squash). The cache finds the layer as
// long as the layers are the same. The base's history has gone already (stage.writeHistory); of the steps' history the last
// entry stands for the layer.
func (b *build) squash(ctx context.Context, target *snapshot, layers []commit.Layer) ([]commit.Layer, error) {
	if len(layers) == 0 {
		return nil, nil
	}
	target.config.History = squashedHistory(target.config.History, target.config.Created, b.plan.Target.Text)

	ids := make([]string, 0, len(layers))
	for _, l := range layers {
		ids = append(ids, l.DiffID.String())
	}
	c, key := b.squashCache(), cache.Squash{Layers: ids, Times: b.timesKey()}.ID()
	onNothing := func(context.Context) (string, error) { return "", nil }
	if e, ok, err := c.Get(ctx, key, onNothing); ok || err != nil {
		for _, w := range decodeNotes(e.Notes).Warnings {
			b.show.warn(w)
		}
		return []commit.Layer{e.Layer}, err
	}

	b.show.notice(fmt.Sprintf("squashing %d layers into one", len(layers)))
	e, err := b.flatten(ctx, target, key)
	if err != nil {
		return nil, err
	}
	return []commit.Layer{e.Layer}, c.Put(ctx, key, e)
}

// squashCache is the cache of the squashed layer. A layer older than CacheOptions.MaxAge is found, too.
func (b *build) squashCache() cache.Cache {
	o := b.options.Cache
	switch {
	case o.Cache == nil, b.options.Layers.OnePerStage:
		return cache.None()
	case o.Refresh:
		return cache.PutOnly(o.Cache)
	}
	return o.Cache
}

// flatten stores the files of the target as one layer.
func (b *build) flatten(ctx context.Context, target *snapshot, key cache.ID) (cache.Entry, error) {
	var reads rootfs.Reads
	reads.Add(target.files)
	reads.Hold()

	var kept notes
	o := rootfs.FlattenOptions{
		Times: b.times(), Owner: b.options.Layers.Owner, Sparse: b.show.sparse, Check: reads.Settle,
		Notes: func(r commit.Tar) []byte {
			if text := leftOut(r); text != "" {
				kept.Warnings = []string{"--squash: " + text}
				b.show.warn(kept.Warnings[0])
			}
			return kept.encode()
		},
	}
	if !b.options.Layers.OnePerStage {
		o.Name = key.Name()
	}

	l, err := target.files.Flatten(ctx, o)
	return cache.Entry{Layer: l, Notes: kept.encode()}, err
}

// leftOut returns the warning about devices that are not in a tar of all files, or "" if no device was left out.
func leftOut(r commit.Tar) string {
	return archive.Devices{First: r.Device, Count: r.Devices}.Text()
}

// squashedHistory has the entries of all steps, the last as the entry of the layer.
func squashedHistory(steps []ocispec.History, created *time.Time, from string) []ocispec.History {
	if len(steps) == 0 {
		return []ocispec.History{{Created: created, CreatedBy: from}}
	}
	for i := range steps {
		steps[i].EmptyLayer = i < len(steps)-1
	}
	return steps
}
