package builder

import (
	"context"
	"fmt"
	"os"
)

// setEpoch finds the time that the build argument SOURCE_DATE_EPOCH means where it names a stage. A context has none, or
// the plan would know it.
func (b *builder) setEpoch(ctx context.Context) error {
	src := b.Plan.EpochOf
	if src == nil {
		return nil
	}

	if !src.Context {
		dir := b.scratch.Dir + "/epoch"
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		t, err := b.Remote.Time(ctx, src.URL, dir, src.Checksum)
		if err != nil {
			return at(src.Step, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err))
		}
		if b.Plan, err = b.Plan.WithEpoch(t); err != nil {
			return err
		}
	}

	if b.Plan.Epoch == nil {
		b.warn("SOURCE_DATE_EPOCH has no effect: what it names has no time of its own")
	}
	if b.Epoch == nil {
		b.Epoch = b.Plan.Epoch
	}

	return nil
}
