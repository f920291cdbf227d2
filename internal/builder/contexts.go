package builder

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"codeberg.org/rbuild/rbuild/internal/copier"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
)

// NamedContext is what a named context turns out to be: a directory of files, or an image. The zero value is scratch.
type NamedContext struct {
	Tree  *copier.Tree // stays open until the build ends; its opener's to close
	Image string       // ID of an image of the store
	Name  string       // by which the image was pulled; "": by none
}

// OpenContext opens a named context for a platform, as plan.Source has it.
type OpenContext func(ctx context.Context, platform string) (NamedContext, error)

// named opens a named context, once.
func (b *builder) named(ctx context.Context, from plan.Source) (NamedContext, error) {
	b.mu.Lock()
	open, ok := b.contexts[from]
	if !ok {
		open = sync.OnceValues(func() (NamedContext, error) {
			nc, err := b.Contexts[from.Context](ctx, from.Platform)
			if err != nil {
				err = fmt.Errorf("build context %s: %w", from.Context, err)
			}
			return nc, err
		})
		b.contexts[from] = open
	}

	b.mu.Unlock()
	return open()
}

// tree gives the files of a source that is a directory, not a stack of layers: nil, if it is none.
func (b *builder) tree(ctx context.Context, from *plan.Source) (*copier.Tree, error) {
	if from == nil {
		return b.Context, nil
	}
	if from.Context == "" {
		return nil, nil
	}
	nc, err := b.named(ctx, *from)
	return nc.Tree, err
}

// openContext is the snapshot of a named context. That of a directory is an image with its files in one layer, as COPY
// would make it, and with no config.
func (b *builder) openContext(ctx context.Context, from plan.Source) (*snapshot, error) {
	nc, err := b.named(ctx, from)
	switch {
	case err != nil:
		return nil, err
	case nc.Image != "":
		return b.openBase(ctx, nc.Name, nc.Image)
	case nc.Tree == nil:
		return b.emptySnapshot()
	}

	empty, err := b.emptySnapshot()
	if err != nil {
		return nil, err
	}

	text := "build context " + from.Context
	s := &stage{builder: b, snapshot: empty, plan: &plan.Stage{Name: from.Context, Text: text}, number: 1, total: 1}
	step := &plan.Step{
		Text: text, CreatedBy: "FROM " + from.Context + " # build context", Canon: "build context",
		Op: &plan.Copy{From: &from, Sources: []string{"."}, Dest: "/"},
	}

	if err := s.step(ctx, step); err != nil {
		return nil, errors.Join(err, s.discard())
	}

	if s.single != nil { // a base has its layers also where a stage has one
		single := s.single
		s.single, s.history = nil, nil
		if err := s.commit(step, *single); err != nil {
			return nil, err
		}
	}

	return s.finish(ctx)
}
