package builder

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"strconv"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// The labels of Options.Image.DescribeStages, by buildah's names.
const (
	stageNameLabel = "io.buildah.stage.name"
	stageBaseLabel = "io.buildah.stage.base"
)

// saveStages records an image without a name of each stage before the target, if that is asked for, in the order of the
// Dockerfile.
func (b *builder) saveStages(ctx context.Context) error {
	if !b.Image.SaveStages {
		return nil
	}

	saved := map[*plan.Stage]string{}
	for _, s := range b.Plan.Stages {
		if s == b.Plan.Target {
			continue
		}
		id, err := b.saveStage(ctx, s, saved)
		if err != nil {
			return fmt.Errorf("saving stage %s: %w", stageName(s), err)
		}
		saved[s] = id
		b.notice(fmt.Sprintf("stage %s is image %s", stageName(s), id))
	}

	// Labels of the user win.
	b.Image.Labels = append(b.stageLabels(b.Plan.Target, saved), b.Image.Labels...)
	return nil
}

// saveStage records the image of one stage.
func (b *builder) saveStage(ctx context.Context, s *plan.Stage, saved map[*plan.Stage]string) (id string, err error) {
	snap, err := b.stage(ctx, s).wait(ctx)
	if err != nil {
		return "", err
	}

	layers, err := snap.stored(ctx)
	if err != nil {
		return "", err
	}

	image := snap.config
	if b.Epoch != nil {
		created := b.Epoch.UTC()
		image.Created = &created
	}

	labels := maps.Clone(image.Config.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	for _, l := range append(b.stageLabels(s, saved), b.Image.StageLabels...) {
		labels[l.Key] = l.Value
	}
	image.Config.Labels = labels

	recorded, err := commit.Record(b.place(), commit.Image{
		Config: image, Layers: layers, Annotations: b.Image.inherited(snap), Format: b.Image.Format, Blobs: b.plain.known(),
	})

	return recorded.ID, err
}

// stageLabels describe a stage; saved are the images of the stages before it.
func (b *builder) stageLabels(s *plan.Stage, saved map[*plan.Stage]string) []Label {
	if !b.Image.DescribeStages {
		return nil
	}
	base := cmp.Or(saved[s.From.Stage], s.From.Image, s.From.Context, "scratch")
	return []Label{{stageNameLabel, stageName(s)}, {stageBaseLabel, base}}
}

// stageName is the name of a stage, else its number.
func stageName(s *plan.Stage) string { return cmp.Or(s.Name, strconv.Itoa(s.Index)) }
