package builder

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"codeberg.org/rbuild/rbuild/internal/cache"
	"codeberg.org/rbuild/rbuild/internal/copier"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/record"
	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/pkg/commit"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// snapshot is the files and the config of a stage or an image. A stage starts from a clone of its base's.
type snapshot struct {
	files  rootfs.Stack
	key    cache.ID           // identifies the files
	config instructions.Image // with the base's history, made to agree with the layers
	args   *plan.Args         // build arguments at the end of the stage; nil: an image
	base   record.Base        // the image at the bottom
	image  rootfs.Image       // the image at the bottom, as its backend has it; the zero value: scratch
	// found is the config of image if the snapshot is that image; nil: a step has been done, or there was no image.
	found *instructions.Image
}

// clone shares the files.
func (s *snapshot) clone() snapshot {
	c := *s
	c.files = s.files.Clone()
	return c
}

// stored waits until every layer is in the store.
func (s *snapshot) stored(ctx context.Context) ([]commit.Layer, error) {
	jobs := s.files.Layers()
	layers := make([]commit.Layer, 0, len(jobs))
	for _, j := range jobs {
		l, err := j.Wait(ctx)
		if err != nil {
			return nil, err
		}
		layers = append(layers, l)
	}
	return layers, nil
}

// top returns the ID of the topmost layer, when it is in the store; "": there is none.
func (s *snapshot) top(ctx context.Context) (commit.Layer, error) {
	jobs := s.files.Layers()
	if len(jobs) == 0 {
		return commit.Layer{}, nil
	}
	return jobs[len(jobs)-1].Wait(ctx)
}

// inputs opens the stages, images and contexts that stages read, each once.
type inputs struct {
	build    *build
	stages   map[*plan.Stage]*future
	images   map[plan.Source]*future // and named contexts that are the base of a stage
	contexts sync.Map                // plan.Source -> func() (NamedContext, error)
}

func newInputs(b *build) *inputs {
	return &inputs{build: b, stages: map[*plan.Stage]*future{}, images: map[plan.Source]*future{}}
}

// stage runs a stage.
func (in *inputs) stage(ctx context.Context, s *plan.Stage) *future {
	schedule := in.build.schedule
	return once(schedule, in.stages, s, func() (*snapshot, error) {
		snap, err := in.build.runStage(ctx, s)
		if err != nil {
			schedule.cancel(err) // the first failure ends the other stages
		}
		return snap, err
	})
}

// image pulls an image, or opens a named context as a base.
func (in *inputs) image(ctx context.Context, from plan.Source) *future {
	return once(in.build.schedule, in.images, from, func() (*snapshot, error) {
		if from.Context != "" {
			return in.contextBase(ctx, from)
		}

		ctx, _, done := startClock(ctx, in.build.options.Limits.Step)
		defer done()
		id, err := in.build.options.Inputs.Pull(ctx, from.Image, from.Platform)
		if err != nil {
			return nil, in.perhapsStage(from.Image, Because(ctx, err))
		}
		return in.openImage(ctx, from.Image, id)
	})
}

// source returns the snapshot that a FROM or a --from names.
func (in *inputs) source(ctx context.Context, s plan.Source) (*snapshot, error) {
	switch {
	case s.Stage != nil:
		return in.stage(ctx, s.Stage).wait(ctx)
	case s.Image != "" || s.Context != "":
		return in.image(ctx, s).wait(ctx)
	}
	return in.scratch()
}

// base is source for FROM. pulled is how long the image was pulled: several stages that begin with an image share one pull,
// which is the work of the first.
func (in *inputs) base(ctx context.Context, from plan.Source) (snap *snapshot, pulled time.Duration, err error) {
	snap, err = in.source(ctx, from)
	if err != nil || from.Stage != nil || from.Image == "" && from.Context == "" {
		return snap, 0, err
	}
	return snap, in.build.schedule.charge(in.image(ctx, from)), nil
}

// scratch has no layers and no config.
func (in *inputs) scratch() (*snapshot, error) {
	files, err := in.build.files.Scratch()
	if err != nil {
		return nil, err
	}
	return &snapshot{files: files, key: cache.Base{}.ID()}, nil
}

// openImage opens an image that was pulled by a name; "": it has none.
func (in *inputs) openImage(ctx context.Context, name, id string) (*snapshot, error) {
	image, files, err := in.build.files.Image(ctx, id)
	if err != nil {
		return nil, err
	}

	s := &snapshot{files: files, image: image, key: cache.Base{Config: image.ConfigDigest.Encoded()}.ID()}
	if err := json.Unmarshal(image.Config, &s.config); err != nil {
		return nil, fmt.Errorf("reading the config of image %s: %w", id, err)
	}

	s.config.History = commit.History(s.config.History, len(files.Layers()))
	found := s.config
	s.found = &found
	if origin := in.build.options.Inputs.Origin; origin != nil {
		s.base = origin(name, id)
	}
	return s, nil
}

// named opens a named context.
func (in *inputs) named(ctx context.Context, from plan.Source) (NamedContext, error) {
	open, _ := in.contexts.LoadOrStore(from, sync.OnceValues(func() (NamedContext, error) {
		nc, err := in.build.options.Inputs.Contexts[from.Context](ctx, from.Platform)
		if err != nil {
			err = fmt.Errorf("build context %s: %w", from.Context, err)
		}
		return nc, err
	}))
	return open.(func() (NamedContext, error))() //nolint:forcetypeassert // stored above
}

// tree returns the files of a source that is a directory, not a stack of layers. It is nil for other sources.
func (in *inputs) tree(ctx context.Context, from *plan.Source) (*copier.Tree, error) {
	if from == nil {
		return in.build.options.Inputs.Context, nil
	}
	if from.Context == "" {
		return nil, nil
	}
	nc, err := in.named(ctx, *from)
	return nc.Tree, err
}

// contextBase is the snapshot of a named context. That of a directory is an image with the files in one layer, as COPY
// would make it, and with no config.
func (in *inputs) contextBase(ctx context.Context, from plan.Source) (*snapshot, error) {
	nc, err := in.named(ctx, from)
	switch {
	case err != nil:
		return nil, err
	case nc.Image != "":
		return in.openImage(ctx, nc.Name, nc.Image)
	}

	empty, err := in.scratch()
	if err != nil || nc.Tree == nil {
		return empty, err
	}
	return in.build.copyContext(ctx, empty, from)
}

// perhapsStage adds to the error about an image that the name is almost that of a stage.
func (in *inputs) perhapsStage(name string, err error) error {
	var stages []string
	for _, s := range in.build.plan.All() {
		if s.Name != "" {
			stages = append(stages, s.Name)
		}
	}

	if match := instructions.Suggest(name, stages); match != "" {
		return fmt.Errorf("%w (did you mean the stage %s?)", err, match)
	}
	return err
}
