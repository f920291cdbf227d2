package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/internal/rootfs/upperdir"
	"codeberg.org/rbuild/rbuild/pkg/commit"
	overlayfs "codeberg.org/rbuild/rbuild/pkg/overlay"
)

// upper implements rootfs.Layer by a staging directory of the store.
type upper struct {
	stack   *stack
	staging *containers.Staging
	work    string // overlayfs's work directory
}

// Begin makes the directories of a new layer.
func (s *stack) Begin(context.Context) (rootfs.Layer, error) {
	if s.cloned.Load() {
		return nil, rootfs.ErrCloned
	}
	staging, err := s.backend.store.NewStaging()
	if err != nil {
		return nil, err
	}

	u := &upper{stack: s, staging: staging, work: staging.Dir + "/work"}
	if err := u.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("making the step's directories: %w", err), staging.Discard())
	}
	return u, nil
}

// prepare makes the work directory and gives the upper directory its attributes.
func (u *upper) prepare() error {
	if err := os.Mkdir(u.work, 0o700); err != nil {
		return err
	}
	return u.stack.shape(u.staging.Upper)
}

func (u *upper) Mount() (overlayfs.Mount, error) {
	return overlayfs.Mount{
		Lowers: u.stack.lowers(), Upper: u.staging.Upper, Work: u.work, Trusted: u.stack.backend.o.Trusted,
	}, nil
}

// View shows the upper directory as the topmost lower directory. Files that a step adds later may be missing in the view.
func (u *upper) View(context.Context) (fdfs.Dir, error) {
	m, err := u.Mount()
	if err != nil {
		return nil, err
	}
	if m.Lowers, err = rootfs.Before(m); err != nil {
		return nil, err
	}
	return open(overlayfs.Mount{Lowers: m.Lowers, Trusted: m.Trusted})
}

func (u *upper) Root(context.Context) (fdfs.Dir, error) {
	m, err := u.Mount()
	if err != nil {
		return nil, err
	}

	root, err := overlayfs.Open(m)
	if err != nil {
		return nil, u.stack.backend.explain(err)
	}
	return fdfs.OnDisk(root), nil
}

// explain returns the reason why the host cannot mount an overlay, if there is one, and err otherwise.
func (b *Backend) explain(err error) error {
	if cause := overlayfs.Probe(b.scratch.Dir, b.o.Trusted); cause != nil {
		return cause
	}
	return err
}

// Apart opens the upper directory itself: nothing of the layers below shows.
func (u *upper) Apart(context.Context) (fdfs.Dir, error) {
	dir, err := os.Open(u.staging.Upper)
	if err != nil {
		return nil, err
	}
	return fdfs.OnDisk(dir), nil
}

func (u *upper) TempDir() string { return u.staging.Dir }

func (u *upper) Discard() error { return u.staging.Discard() }

// Commit pins the upper directory as the topmost of the stack. The rename into the store does not disturb its mounts.
func (u *upper) Commit(ctx context.Context, o rootfs.CommitOptions) (*rootfs.Job, error) {
	s := u.stack
	below, err := s.rootAttributes()
	if err != nil {
		return nil, errors.Join(err, u.Discard())
	}
	if err := setTimes(ctx, u.staging.Upper, o.Times); err != nil {
		return nil, errors.Join(err, u.Discard())
	}
	if err := s.pin(u.staging.Upper); err != nil {
		return nil, errors.Join(err, u.Discard())
	}

	job := start(ctx, u.staging, storeOptions{
		Parent: s.top(), Name: o.Name, Notes: o.Notes, Check: s.intactBelow(ctx, slices.Clone(s.layers)),
		Tar: commit.TarOptions{
			Below: &below, Epoch: o.Times.Epoch, Clamp: o.Times.Clamp, Trusted: s.backend.o.Trusted, Sparse: o.Sparse,
		},
	})

	s.layers = append(s.layers, job)
	return job, nil
}

// setTimes changes the modification times of the files in a directory.
func setTimes(ctx context.Context, upper string, t rootfs.Times) error {
	if t.Epoch == nil {
		return nil
	}

	dir, err := os.Open(upper)
	if err != nil {
		return err
	}
	return errors.Join(upperdir.SetTimes(ctx, dir, *t.Epoch, t.Clamp), dir.Close())
}
