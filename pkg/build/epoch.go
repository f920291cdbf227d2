package build

import (
	"context"
	"fmt"

	"codeberg.org/rbuild/rbuild/pkg/copy"
)

// setEpoch finds the time that the build argument SOURCE_DATE_EPOCH means where it names the context or a stage.
func (b *builder) setEpoch(ctx context.Context) error {
	src := b.Plan.EpochOf
	switch {
	case src == nil:
		return nil
	case src.Context && b.Context != nil:
		b.Plan.SetEpoch(b.Context.Time)
	case !src.Context:
		t, err := copy.URLTime(ctx, copy.Spec{
			Add: true, Sources: []string{src.URL}, Dest: "/file", Checksum: src.Checksum, TempDir: b.scratch.Dir,
		})
		if err != nil {
			return at(src.Step, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err))
		}
		b.Plan.SetEpoch(t)
	}
	if b.Plan.Epoch == nil {
		b.warn("SOURCE_DATE_EPOCH has no effect: what it names has no time of its own")
	}
	if b.Epoch == nil {
		b.Epoch = b.Plan.Epoch
	}
	return nil
}
