package layer

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// SetTimes gives everything in the directory dir, itself included, the modification time epoch, or with clamp only what
// is later. A layer's directory then says what the tar says that Write makes of it with the same Options.Epoch and
// Options.Clamp, to containers and to the next steps of a build. The directory must not be mounted.
func SetTimes(ctx context.Context, dir *os.File, epoch time.Time, clamp bool) error {
	t := &toucher{epoch: epoch.Unix(), clamp: clamp, dents: make([]byte, 32<<10)}
	if err := t.children(ctx, int(dir.Fd()), ""); err != nil {
		return fmt.Errorf("setting the times of files: %w", err)
	}
	if err := t.set(int(dir.Fd()), ".", "."); err != nil {
		return fmt.Errorf("setting the times of files: %w", err)
	}
	return nil
}

type toucher struct {
	epoch int64
	clamp bool
	dents []byte
}

func (t *toucher) children(ctx context.Context, fd int, path string) error {
	entries, err := readDir(fd, t.dents)
	if err != nil {
		return &os.PathError{Op: "readdir", Path: path, Err: err}
	}

	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := t.child(ctx, fd, e.name, path+e.name); err != nil {
			return err
		}
	}

	return nil
}

func (t *toucher) child(ctx context.Context, parent int, name, path string) error {
	st, err := statAt(parent, name, path)
	if err != nil {
		return err
	}

	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		fd, _, err := openAt(parent, name, path, unix.S_IFDIR)
		if err != nil {
			return err
		}
		err = t.children(ctx, fd, path+"/")
		closeFD(fd)
		if err != nil {
			return err
		}
	}

	return t.set(parent, name, path)
}

// set changes the time of one file, after what is in it, which changes it too.
func (t *toucher) set(parent int, name, path string) error {
	st, err := statAt(parent, name, path)
	if err != nil {
		return err
	}
	if t.clamp && st.Mtim.Sec < t.epoch {
		return nil
	}

	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(0)}
	times[1].Sec = t.epoch
	err = retry(func() error { return unix.UtimesNanoAt(parent, name, times, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return &os.PathError{Op: "utimensat", Path: path, Err: err}
	}
	return nil
}
