package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"codeberg.org/rbuild/rbuild/internal/copier"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

// copyStep runs COPY and ADD: what is selected is digested first, because the digest is part of the key.
func (s *stage) copyStep(ctx context.Context, step *plan.Step, op *plan.Copy, r *report) (err error) {
	if op.Link && s.OneLayer {
		return errors.New("--link makes a layer that does not depend on those below, which --layers=false does not have")
	}

	tree, done, err := s.copySource(ctx, op)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()

	spec, err := s.copySpec(ctx, op)
	if err != nil {
		return err
	}

	fetched, err := s.fetch(ctx, op)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fetched.remove()) }()

	spec.Remote = fetched.sources
	spec.Sparse = func(source string, size, data int64) { s.warnSource(step, source, size, data) }
	selection, err := copier.Select(ctx, tree, spec)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, selection.Close()) }()

	found := selection.Warnings()
	for _, w := range found {
		s.remark(w)
	}

	return s.files(ctx, step, []string{selection.Digest().String()}, r, func(ctx context.Context, u upper) (bool, error) {
		root, err := s.destination(ctx, u, op)
		if err != nil {
			return false, err
		}
		err = errors.Join(selection.Write(ctx, root), root.Close())
		for _, w := range selection.Warnings()[len(found):] {
			s.remark(w)
		}
		return true, err
	})
}

// copySource opens what a COPY reads; done closes it.
func (s *stage) copySource(ctx context.Context, op *plan.Copy) (tree *copier.Tree, done func() error, err error) {
	none := func() error { return nil }
	if tree, err = s.tree(ctx, op.From); err != nil || tree != nil {
		return tree, none, err
	}
	if op.From == nil {
		if len(op.Sources) > 0 && slices.ContainsFunc(op.Sources, isPath) {
			return nil, nil, errors.New("there is no build context to copy from: give a directory, or a tar on standard input")
		}
		return nil, none, nil
	}

	snap, err := s.other(ctx, *op.From)
	if err != nil {
		return nil, nil, err
	}
	if snap.memory != nil {
		root, err := snap.memory.root(ctx)
		return copier.OpenRoot(root), none, err
	}

	view, err := s.reads.open(snap)
	if err != nil {
		return nil, nil, err
	}

	return copier.OpenRoot(fdfs.OnDisk(view)), view.Close, nil
}

func (s *stage) copySpec(ctx context.Context, op *plan.Copy) (copier.Spec, error) {
	spec := copier.Spec{
		Sources: op.Sources, Dest: op.Dest, Chmod: op.Chmod, Exclude: op.Exclude, Parents: op.Parents, Link: op.Link,
		Add: op.Add, Unpack: op.Unpack,
	}

	for _, f := range op.Inline {
		spec.Inline = append(spec.Inline, copier.File{Name: f.Name, Data: f.Data})
	}
	if op.Chown == "" {
		return spec, nil
	}

	owner, err := s.owner(ctx, op.Chown)
	if err != nil {
		return spec, fmt.Errorf("--chown=%s: %w", op.Chown, err)
	}

	spec.Chown = &owner
	return spec, nil
}

// owner looks the value of --chown or USER up in the image; empty is root.
func (s *stage) owner(ctx context.Context, name string) (copier.Owner, error) {
	if name == "" {
		return copier.Owner{}, nil
	}
	if s.memory != nil {
		root, err := s.memory.root(ctx)
		if err != nil {
			return copier.Owner{}, err
		}
		return copier.ResolveOwner(root, name)
	}

	view, err := s.view()
	if err != nil {
		return copier.Owner{}, err
	}
	return copier.ResolveOwner(fdfs.OnDisk(view), name)
}

// workdirStep makes the directory of WORKDIR where the image does not have it.
func (s *stage) workdirStep(ctx context.Context, step *plan.Step, op *plan.Workdir, r *report) error {
	return s.files(ctx, step, nil, r, func(ctx context.Context, u upper) (bool, error) {
		root, err := s.mount(ctx, u)
		if err != nil {
			return false, err
		}

		// USER need not be known to the image where nothing is made. The key needs no numbers: the layer below has them.
		owner := func() (copier.Owner, error) { return copier.ResolveOwner(root, op.User) }
		made, err := copier.MakeDirsOf(root, path.Clean(op.Path), owner)
		if err == nil && path.Clean(op.Path) != op.Path {
			// What a ".." undoes must be there for the path to lead anywhere; as elsewhere it is root's.
			var more bool
			more, err = copier.MakeDirs(root, op.Path, copier.Owner{})
			made = made || more
		}
		return made, errors.Join(err, root.Close())
	})
}

// destination is where a COPY writes. With --link that is an empty tree: the layer does not depend on those below it,
// and says itself what the directories on the way are like.
func (s *stage) destination(ctx context.Context, u upper, op *plan.Copy) (fdfs.Dir, error) {
	if !op.Link {
		return s.mount(ctx, u)
	}
	if s.memory != nil {
		return s.memory.apart(ctx)
	}
	dir, err := os.Open(u.Upper)
	if err != nil {
		return nil, err
	}
	return fdfs.OnDisk(dir), nil
}

// mount stacks the step's upper directory on the stage's files.
func (s *stage) mount(ctx context.Context, u upper) (fdfs.Dir, error) {
	if s.memory != nil {
		return s.memory.root(ctx)
	}
	root, err := overlay.Open(overlay.Mount{Lowers: s.reads.lowers(s.snapshot), Upper: u.Upper, Work: u.work, Trusted: s.Trusted})
	if err != nil {
		return nil, s.explain(err)
	}
	return fdfs.OnDisk(root), nil
}

// explain says why the host cannot do what the step needs, if that is why it failed.
func (s *stage) explain(err error) error {
	if err == nil {
		return nil
	}
	if cause := overlay.Probe(s.scratch.Dir, s.Trusted); cause != nil {
		return cause
	}
	return err
}
