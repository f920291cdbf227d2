package builder

import (
	"context"
	"errors"
	"fmt"
	"os"

	"codeberg.org/rbuild/rbuild/internal/copier"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/source"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// fetched is what an ADD names that lies elsewhere.
type fetched struct {
	sources map[string]copier.Remote // by source; the Selection's to close
	dir     string                   // holds them; empty: there are none
}

func (f *fetched) remove() error {
	if f.dir == "" {
		return nil
	}
	return os.RemoveAll(f.dir)
}

// isPath tells whether a source is one of the context.
func isPath(src string) bool { return !instructions.IsURL(src) && !instructions.IsGit(src) }

// fetch brings the git repositories and URLs of an ADD.
func (s *stage) fetch(ctx context.Context, op *plan.Copy) (f *fetched, err error) {
	f = &fetched{sources: map[string]copier.Remote{}}
	defer func() {
		if err == nil {
			return
		}
		errs := []error{err}
		for _, r := range f.sources {
			errs = append(errs, r.Close())
		}
		err = errors.Join(append(errs, f.remove())...)
	}()

	for i, src := range op.Sources {
		if _, ok := f.sources[src]; !op.Add || isPath(src) || ok {
			continue
		}
		if f.dir == "" {
			if f.dir, err = os.MkdirTemp(s.scratch.Dir, "add-"); err != nil {
				return f, err
			}
		}
		if err := s.fetchOne(ctx, op, f, i); err != nil {
			return f, err
		}
	}

	return f, nil
}

func (s *stage) fetchOne(ctx context.Context, op *plan.Copy, f *fetched, number int) error {
	src := op.Sources[number]
	if instructions.IsURL(src) {
		file, err := s.Remote.File(ctx, src, f.dir, op.Checksum)
		if err == nil {
			f.sources[src] = file.Remote
		}
		return err
	}

	dir := fmt.Sprintf("%s/%d", f.dir, number)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}

	tree, warnings, err := s.Remote.Git(ctx, src, dir, source.GitOptions{KeepGitDir: op.KeepGitDir, Checksum: op.Checksum})
	if err != nil {
		return err
	}

	f.sources[src] = tree
	for _, w := range warnings {
		s.remark(w)
	}

	return nil
}
