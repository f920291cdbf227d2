package builder

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"codeberg.org/rbuild/rbuild/internal/copier"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/passwd"
	"codeberg.org/rbuild/rbuild/internal/rootfs"
)

// copyChange is COPY and ADD. The selected files are digested first, because the digest is part of the key.
func (s *stage) copyChange(ctx context.Context, st *step, op *plan.Copy) (*change, error) {
	if op.Link {
		if err := s.layers.linkable(); err != nil {
			return nil, err
		}
	}

	tree, err := s.copySource(ctx, st, op)
	if err != nil {
		return nil, err
	}

	spec, err := s.copySpec(ctx, st, op)
	if err != nil {
		return nil, err
	}
	if spec.Remote, err = s.build.inputs.fetch(ctx, st, op); err != nil {
		return nil, err
	}

	selection, err := copier.Select(ctx, tree, spec)
	if err != nil {
		return nil, err
	}
	st.atEnd(selection.Close)
	found := selection.Warnings()
	for _, w := range found {
		st.remark(w)
	}

	write := func(ctx context.Context, l rootfs.Layer) (bool, error) {
		open := l.Root
		if op.Link { // the layer does not depend on the layers below, and says itself how the directories on the way are
			open = l.Apart
		}
		root, err := open(ctx)
		if err != nil {
			return false, err
		}

		err = errors.Join(selection.Write(ctx, root), root.Close())
		for _, w := range selection.Warnings()[len(found):] {
			st.remark(w)
		}
		return true, err
	}
	return &change{content: []string{selection.Digest().String()}, write: write}, nil
}

// copySource opens the files that a COPY reads; nil: it reads no files of a tree.
func (s *stage) copySource(ctx context.Context, st *step, op *plan.Copy) (*copier.Tree, error) {
	tree, err := s.build.inputs.tree(ctx, op.From)
	if err != nil || tree != nil {
		return tree, err
	}
	if op.From == nil {
		if slices.ContainsFunc(op.Sources, isPath) {
			return nil, errors.New("there is no build context to copy from: give a directory, or a tar on standard input")
		}
		return nil, nil //nolint:nilnil // documented
	}

	snap, err := s.other(ctx, st, *op.From)
	if err != nil {
		return nil, err
	}
	root, err := st.view(ctx, snap)
	if err != nil {
		return nil, err
	}
	return copier.OpenRoot(root), nil
}

// copySpec translates the operands.
func (s *stage) copySpec(ctx context.Context, st *step, op *plan.Copy) (copier.Spec, error) {
	spec := copier.Spec{
		Sources: op.Sources, Dest: op.Dest, Chmod: op.Chmod, Exclude: op.Exclude, Parents: op.Parents, Link: op.Link,
		Add: op.Add, Unpack: op.Unpack, Sparse: st.sparseSource,
	}
	for _, f := range op.Inline {
		spec.Inline = append(spec.Inline, copier.File{Name: f.Name, Data: f.Data})
	}
	if op.Chown == "" {
		return spec, nil
	}

	root, err := s.view(ctx, st)
	if err != nil {
		return spec, fmt.Errorf("--chown=%s: %w", op.Chown, err)
	}
	owner, err := passwd.ResolveOwner(root, op.Chown)
	if err := errors.Join(err, root.Close()); err != nil {
		return spec, fmt.Errorf("--chown=%s: %w", op.Chown, err)
	}
	spec.Chown = &owner
	return spec, nil
}

// view opens the files of the stage as they are now. The caller closes the view.
func (s *stage) view(ctx context.Context, st *step) (fdfs.Dir, error) {
	st.reads.Add(s.now.files)
	return s.layers.files(s.now.files).View(ctx)
}

// other returns the snapshot of another stage or image that the step reads.
func (s *stage) other(ctx context.Context, st *step, from plan.Source) (*snapshot, error) {
	defer st.clock.pause()()
	return s.build.inputs.source(ctx, from)
}

// view opens the files of a snapshot until the step ends.
func (st *step) view(ctx context.Context, snap *snapshot) (fdfs.Dir, error) {
	st.reads.Add(snap.files)
	root, err := snap.files.View(ctx)
	if err != nil {
		return nil, err
	}
	st.atEnd(root.Close)
	return root, nil
}

// workdirChange makes the directory of WORKDIR if the image does not have it.
func (s *stage) workdirChange(op *plan.Workdir) *change {
	return &change{write: func(ctx context.Context, l rootfs.Layer) (bool, error) {
		root, err := l.Root(ctx)
		if err != nil {
			return false, err
		}

		// The image need not know USER if no directory is made. The key needs no numbers: the layer below has them.
		owner := func() (fdfs.Owner, error) { return passwd.ResolveOwner(root, op.User) }
		made, err := copier.MakeDirsOf(root, path.Clean(op.Path), owner)
		if err == nil && path.Clean(op.Path) != op.Path {
			// A directory that a ".." leaves again must exist, or the path leads nowhere. As elsewhere it belongs to root.
			var more bool
			more, err = copier.MakeDirs(root, op.Path, fdfs.Owner{})
			made = made || more
		}
		return made, errors.Join(err, root.Close())
	}}
}

// copyContext returns the snapshot of a build context that is a directory, as COPY would make it on nothing.
func (b *build) copyContext(ctx context.Context, empty *snapshot, from plan.Source) (*snapshot, error) {
	text := "build context " + from.Context
	copyAll := &plan.Step{
		Text: text, CreatedBy: "FROM " + from.Context + " # build context", Canon: "build context",
		Op: &plan.Copy{From: &from, Sources: []string{"."}, Dest: "/"},
	}

	s := b.newStage(&plan.Stage{Name: from.Context, Text: text}, empty)
	if err := s.step(ctx, copyAll); err != nil {
		return nil, errors.Join(err, s.layers.abandon())
	}
	return s.finish(ctx, copyAll)
}
