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

// checkout writes the files. The index gets all files of the commit, because the attributes of directories above the
// subdirectory apply too.
func (f *fetcher) checkout(ctx context.Context, commit string) error {
	if f.ref.Subdir != "" {
		kind, err := f.run(ctx, "cat-file", "-t", commit+":"+f.ref.Subdir)
		if err != nil || strings.TrimSpace(kind) != "tree" {
			return fmt.Errorf("commit %s has no directory %s", commit, f.ref.Subdir)
		}
	}

	if _, err := f.run(ctx, "read-tree", commit); err != nil {
		return err
	}

	args := []string{"checkout-index", "--quiet", "--force", "--all"}
	if f.ref.Subdir != "" {
		args = []string{"checkout", "--quiet", "--force", "--", path.Join(f.work, f.ref.Subdir)}
	}
	_, err := f.run(ctx, args...)
	return err
}

// finish removes everything that the caller has not asked for.
func (f *fetcher) finish(ctx context.Context, c *Checkout) (err error) {
	c.Dir = f.work
	if f.KeepGitDir && f.ref.Subdir == "" {
		err = f.detach(ctx, c.Commit)
	} else {
		err = f.root.RemoveAll("work/.git")
	}

	if err == nil && f.ref.Subdir != "" {
		c.Dir, err = f.extract()
	}
	if err == nil && (f.CommitTimes || f.ref.CommitTimes) {
		err = setTimes(c.Dir, c.Time)
	}
	return err
}

// detach removes everything private from the repository: HEAD is the commit, and the origin has no credentials. The index
// has no attributes of this file system, because checkout-index runs without --index.
func (f *fetcher) detach(ctx context.Context, commit string) error {
	for _, args := range [][]string{
		{"update-ref", "--no-deref", "HEAD", commit},
		{"config", "--add", "remote.origin.url", f.ref.URL},
		{"config", "--add", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"},
	} {
		if _, err := f.run(ctx, args...); err != nil {
			return err
		}
	}

	if err := f.root.Remove("work/.git/FETCH_HEAD"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// extract moves the subdirectory out of the checkout. It follows no link; git's trees cannot lead through one.
func (f *fetcher) extract() (string, error) {
	at := "work"
	for part := range strings.SplitSeq(f.ref.Subdir, "/") {
		at = path.Join(at, part)
		info, err := f.root.Lstat(at)
		if err != nil || !info.IsDir() {
			return "", errors.Join(fmt.Errorf("%s is no directory", f.ref.Subdir), err)
		}
	}

	if err := f.root.Rename(at, "files"); err != nil {
		return "", err
	}
	return filepath.Join(f.dir, "files"), f.root.RemoveAll("work")
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
