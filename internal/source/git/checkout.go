package git

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// worktree is the directory that gets the files of a commit.
type worktree struct {
	Options
	ref  Ref
	git  *command
	dir  string   // of the Fetch, absolute; the repository is its directory "work"
	root *os.Root // of dir
}

// write writes the files. The index gets all files of the commit, because the attributes of
// directories above the subdirectory apply too.
func (w *worktree) write(ctx context.Context, commit string) error {
	if w.ref.Subdir != "" {
		kind, err := w.git.run(ctx, "cat-file", "-t", commit+":"+w.ref.Subdir)
		if err != nil || strings.TrimSpace(kind) != "tree" {
			return fmt.Errorf("commit %s has no directory %s", commit, w.ref.Subdir)
		}
	}

	if _, err := w.git.run(ctx, "read-tree", commit); err != nil {
		return err
	}

	args := []string{"checkout-index", "--quiet", "--force", "--all"}
	if w.ref.Subdir != "" {
		args = []string{"checkout", "--quiet", "--force", "--", path.Join(w.git.work, w.ref.Subdir)}
	}
	_, err := w.git.run(ctx, args...)
	return err
}

// finish removes everything that the caller has not asked for. It returns the directory of the
// files.
func (w *worktree) finish(ctx context.Context, c Checkout) (dir string, err error) {
	if dir, err = w.strip(ctx, c.Commit); err != nil {
		return "", err
	}
	if w.CommitTimes || w.ref.CommitTimes {
		err = setTimes(dir, c.Time)
	}
	return dir, err
}

// strip removes the repository, or the private parts of the repository, and the files outside the
// subdirectory. It returns the directory of the remaining files.
func (w *worktree) strip(ctx context.Context, commit string) (string, error) {
	if w.KeepGitDir && w.ref.Subdir == "" {
		return w.git.work, w.detach(ctx, commit)
	}

	if err := w.root.RemoveAll("work/.git"); err != nil {
		return "", err
	}
	if w.ref.Subdir != "" {
		return w.extract()
	}
	return w.git.work, nil
}

// detach removes everything private from the repository: HEAD is the commit, and the origin has no credentials. The index
// has no attributes of this file system, because checkout-index runs without --index.
func (w *worktree) detach(ctx context.Context, commit string) error {
	for _, args := range [][]string{
		{"update-ref", "--no-deref", "HEAD", commit},
		{"config", "--add", "remote.origin.url", w.ref.URL},
		{"config", "--add", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"},
	} {
		if _, err := w.git.run(ctx, args...); err != nil {
			return err
		}
	}

	if err := w.root.Remove("work/.git/FETCH_HEAD"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// extract moves the subdirectory out of the checkout. It follows no link; git's trees cannot lead
// through one.
func (w *worktree) extract() (string, error) {
	at := "work"
	for part := range strings.SplitSeq(w.ref.Subdir, "/") {
		at = path.Join(at, part)
		info, err := w.root.Lstat(at)
		if err != nil || !info.IsDir() {
			return "", errors.Join(fmt.Errorf("%s is no directory", w.ref.Subdir), err)
		}
	}

	if err := w.root.Rename(at, "files"); err != nil {
		return "", err
	}
	return filepath.Join(w.dir, "files"), w.root.RemoveAll("work")
}

// setTimes gives all below dir, and dir, the modification time t.
func setTimes(dir string, t time.Time) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return setTimesIn(d, fdfs.Time{Sec: t.Unix(), Nsec: int64(t.Nanosecond())})
}

func setTimesIn(dir *os.File, t fdfs.Time) error {
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return err
	}

	for _, e := range entries {
		if e.IsDir() {
			sub, err := fdfs.OpenDirAt(dir, e.Name())
			if err != nil {
				return err
			}
			if err := errors.Join(setTimesIn(sub, t), sub.Close()); err != nil {
				return err
			}
		} else if err := fdfs.SetMtimeAt(dir, e.Name(), t); err != nil {
			return err
		}
	}

	return fdfs.SetMtimeAt(dir, ".", t)
}
