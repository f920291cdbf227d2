package builder

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// The labels of StageImages.Describe, by buildah's names.
const (
	stageNameLabel = "io.buildah.stage.name"
	stageBaseLabel = "io.buildah.stage.base"
)

// saveStages records an image without a name of each stage before the target, in the order of the Dockerfile, if
// StageImages.Save asks for that.
func (r *recorder) saveStages(ctx context.Context) error {
	if !r.options.Stages.Save {
		return nil
	}

	p := r.build.plan
	saved := map[*plan.Stage]string{}
	for _, s := range p.Stages {
		if s == p.Target {
			continue
		}
		id, err := r.saveStage(ctx, s, saved)
		if err != nil {
			return fmt.Errorf("saving stage %s: %w", stageName(s), err)
		}
		saved[s] = id
		r.build.show.notice(fmt.Sprintf("stage %s is image %s", stageName(s), id))
	}

	// Labels of the user win.
	r.options.Labels.Set = slices.Concat(r.stageLabels(p.Target, saved), r.options.Labels.Set)
	return nil
}

// saveStage records the image of one stage.
func (r *recorder) saveStage(ctx context.Context, s *plan.Stage, saved map[*plan.Stage]string) (id string, err error) {
	snap, err := r.build.inputs.stage(ctx, s).wait(ctx)
	if err != nil {
		return "", err
	}
	layers, err := snap.stored(ctx)
	if err != nil {
		return "", err
	}

	image := withTime(snap.config, r.build.epoch)
	labels := maps.Clone(image.Config.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	for _, l := range slices.Concat(r.stageLabels(s, saved), r.options.Stages.Labels) {
		labels[l.Key] = l.Value
	}
	image.Config.Labels = labels

	recorded, err := commit.Record(r.images, commit.Image{
		Config: image, Layers: layers, Annotations: r.options.Annotations.inherited(snap.image.Annotations),
		Format: r.options.Format, Blobs: snap.image.Blobs,
	})
	return recorded.ID, err
}

// stageLabels describe a stage. saved are the images of the stages before it.
func (r *recorder) stageLabels(s *plan.Stage, saved map[*plan.Stage]string) []Label {
	if !r.options.Stages.Describe {
		return nil
	}
	base := cmp.Or(saved[s.From.Stage], s.From.Image, s.From.Context, "scratch")
	return []Label{{stageNameLabel, stageName(s)}, {stageBaseLabel, base}}
}

// stageName is the name of a stage, else its number.
func stageName(s *plan.Stage) string { return cmp.Or(s.Name, strconv.Itoa(s.Index)) }
