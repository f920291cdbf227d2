package builder

import (
	"context"
	"fmt"
	"os"
)

// setEpoch finds the time that the build argument SOURCE_DATE_EPOCH means where it names a stage. If it names the context,
// the plan knows the time, unless the context has none.
func (b *build) setEpoch(ctx context.Context) error {
	b.epoch = b.options.Layers.Epoch
	src := b.plan.EpochOf
	if src == nil {
		return nil
	}

	if !src.Context {
		dir := b.files.TempDir() + "/epoch"
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		t, err := b.options.Inputs.Remote.Time(ctx, src.URL, dir, src.Checksum)
		if err != nil {
			return at(src.Step, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err))
		}
		if b.plan, err = b.plan.WithEpoch(t); err != nil {
			return err
		}
	}

	known := b.plan.Epoch
	if known == nil {
		b.show.warn("SOURCE_DATE_EPOCH has no effect: what it names has no time of its own")
	}
	if b.epoch == nil {
		b.epoch = known
	}
	return nil
}
