package builder

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/record"
	"codeberg.org/rbuild/rbuild/internal/rootfs"
)

// record makes the image of the target, unless no image is wanted.
func (b *build) record(ctx context.Context, r *record.Recorder, target *snapshot) (Result, error) {
	stage, err := target.finished(ctx)
	if err != nil || r.Options.None {
		return Result{}, err
	}

	if !b.options.Layers.Squash {
		image, kept, err := r.Keep(&stage)
		if err != nil || kept {
			return Result(image), err
		}
	} else {
		stage.Layers, err = b.squash(ctx, target, stage.Layers)
		if err != nil {
			return Result{}, err
		}
		stage.Config = target.config
	}

	image, err := r.Image(&stage)
	if err != nil {
		var reads rootfs.Reads
		reads.Add(target.files)
		return Result{}, removedOr(reads.Check(), err)
	}
	return Result(image), nil
}

// finished waits until every layer is in the store.
func (s *snapshot) finished(ctx context.Context) (record.Stage, error) {
	layers, err := s.stored(ctx)
	return record.Stage{
		Config: s.config, Layers: layers, Base: s.base,
		BaseID: s.image.ID, Annotations: s.image.Annotations, Blobs: s.image.Blobs, Found: s.found,
	}, err
}

// saveStages records an image without a name of each stage before the target, in the order of the Dockerfile, if
// StageImages.Save asks for that.
func (b *build) saveStages(ctx context.Context, r *record.Recorder) error {
	if !r.Options.Stages.Save {
		return nil
	}

	saved := map[*plan.Stage]string{}
	describe := func(s *plan.Stage) []record.Label {
		return r.Describe(stageName(s), cmp.Or(saved[s.From.Stage], s.From.Image, s.From.Context, "scratch"))
	}
	for _, s := range b.plan.Stages {
		if s == b.plan.Target {
			continue
		}
		id, err := b.saveStage(ctx, r, s, describe(s))
		if err != nil {
			return fmt.Errorf("saving stage %s: %w", stageName(s), err)
		}
		saved[s] = id
		b.show.notice(fmt.Sprintf("stage %s is image %s", stageName(s), id))
	}

	// Labels of the user win.
	r.Options.Labels.Set = slices.Concat(describe(b.plan.Target), r.Options.Labels.Set)
	return nil
}

// saveStage records the image of one stage.
func (b *build) saveStage(
	ctx context.Context, r *record.Recorder, s *plan.Stage, labels []record.Label,
) (id string, err error) {
	snap, err := b.inputs.stage(ctx, s).wait(ctx)
	if err != nil {
		return "", err
	}
	stage, err := snap.finished(ctx)
	if err != nil {
		return "", err
	}
	return r.Save(&stage, labels)
}

// stageName is the name of a stage, else its number.
func stageName(s *plan.Stage) string { return cmp.Or(s.Name, strconv.Itoa(s.Index)) }
