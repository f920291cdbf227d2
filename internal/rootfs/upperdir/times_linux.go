// Package upperdir works on the upper directory of an overlay mount before the directory becomes a
// layer.
package upperdir

import (
	"context"
	"fmt"
	"os"
	"time"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// dentsSize is the size in bytes of the scratch space for lists of directories.
const dentsSize = 32 << 10

// SetTimes sets the modification time of dir and of all files below dir to epoch. With clamp only
// later times change. Containers and the next steps of the build then see the same times as the tar
// that commit.WriteTar writes with the same TarOptions.Epoch and TarOptions.Clamp. The directory
// must not be mounted.
func SetTimes(ctx context.Context, dir *os.File, epoch time.Time, clamp bool) error {
	t := &toucher{epoch: epoch.Unix(), clamp: clamp, dents: make([]byte, dentsSize)}
	fd := fdfs.FDOf(dir)
	if err := t.children(ctx, fd, ""); err != nil {
		return fmt.Errorf("setting the times of files: %w", err)
	}
	if err := t.set(fd, ".", "."); err != nil {
		return fmt.Errorf("setting the times of files: %w", err)
	}
	return nil
}

type toucher struct {
	epoch int64 // seconds
	clamp bool
	dents []byte
}

func (t *toucher) children(ctx context.Context, fd fdfs.FD, path string) error {
	entries, err := fd.Dirents(t.dents)
	if err != nil {
		return fdfs.PathError("readdir", path, err)
	}

	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := t.child(ctx, fd, e.Name, path+e.Name); err != nil {
			return err
		}
	}

	return nil
}

func (t *toucher) child(ctx context.Context, parent fdfs.FD, name, path string) error {
	st, err := parent.Stat(name)
	if err != nil {
		return fdfs.PathError("stat", path, err)
	}

	if st.Type == fdfs.Directory {
		fd, err := openDir(parent, name, path)
		if err != nil {
			return err
		}
		err = t.children(ctx, fd, path+"/")
		fd.Close()
		if err != nil {
			return err
		}
	}

	return t.set(parent, name, path)
}

// set changes the time of a file. Entries come before their directory, because a change of an entry
// changes the time of the directory.
func (t *toucher) set(parent fdfs.FD, name, path string) error {
	st, err := parent.Stat(name)
	if err != nil {
		return fdfs.PathError("stat", path, err)
	}
	if t.clamp && st.Mtime.Sec < t.epoch {
		return nil
	}
	return fdfs.PathError("utimensat", path, parent.SetMtime(name, fdfs.Time{Sec: t.epoch}))
}

// openDir opens the directory name of parent. path is for errors. The caller closes the descriptor.
func openDir(parent fdfs.FD, name, path string) (fdfs.FD, error) {
	fd, st, err := parent.Open(name)
	if err != nil {
		return fd, fdfs.PathError("open", path, err)
	}
	if st.Type != fdfs.Directory {
		fd.Close()
		return fd, fmt.Errorf("%q: changed while it was read", path)
	}
	return fd, nil
}
