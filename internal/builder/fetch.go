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

// isPath reports whether a source of COPY or ADD is in the context, not a URL and not a git repository.
func isPath(src string) bool { return !instructions.IsURL(src) && !instructions.IsGit(src) }

// fetch brings the git repositories and URLs of an ADD, by source. The Selection that gets them closes them.
func (in *inputs) fetch(ctx context.Context, st *step, op *plan.Copy) (fetched map[string]copier.Remote, err error) {
	fetched = map[string]copier.Remote{}
	dir := ""
	for i, src := range op.Sources {
		if _, ok := fetched[src]; !op.Add || isPath(src) || ok {
			continue
		}

		if dir == "" {
			if dir, err = os.MkdirTemp(in.build.files.TempDir(), "add-"); err != nil {
				return nil, err
			}
			st.atEnd(func() error { return os.RemoveAll(dir) })
		}
		remote, err := in.fetchOne(ctx, st, op, i, dir)
		if err != nil {
			return nil, errors.Join(err, closeAll(fetched))
		}
		fetched[src] = remote
	}

	return fetched, nil
}

// fetchOne brings a source to a place below the directory dir.
func (in *inputs) fetchOne(ctx context.Context, st *step, op *plan.Copy, number int, dir string) (copier.Remote, error) {
	src := op.Sources[number]
	remote := in.build.options.Inputs.Remote
	if instructions.IsURL(src) {
		file, err := remote.File(ctx, src, dir, op.Checksum)
		return file.Remote, err
	}

	dir = fmt.Sprintf("%s/%d", dir, number)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return copier.Remote{}, err
	}

	tree, warnings, err := remote.Git(ctx, src, dir, source.GitOptions{KeepGitDir: op.KeepGitDir, Checksum: op.Checksum})
	if err != nil {
		return copier.Remote{}, err
	}
	for _, w := range warnings {
		st.remark(w)
	}
	return tree, nil
}

func closeAll(fetched map[string]copier.Remote) error {
	var errs []error
	for _, r := range fetched {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}
