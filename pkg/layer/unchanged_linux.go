package layer

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Unchanged gives the bytes of the regular files in the directory dir that below, the files of the layers below it, has at
// the same path with the same size and time of modification: overlayfs copied them up because their owner, mode or
// other attributes were set, and their content is stored twice for that. Nothing is read. A file with several names in
// dir counts once. Both directories stay open; the caller must be able to read everything in them.
func Unchanged(ctx context.Context, dir, below *os.File) (bytes int64, err error) {
	c := comparer{seen: map[inode]bool{}, dents: make([]byte, 32<<10)}
	if err := c.children(ctx, int(dir.Fd()), int(below.Fd()), ""); err != nil {
		return 0, fmt.Errorf("comparing a layer with those below: %w", err)
	}
	return c.bytes, nil
}

type comparer struct {
	bytes int64
	seen  map[inode]bool // with several names
	dents []byte
}

func (c *comparer) children(ctx context.Context, fd, below int, path string) error {
	entries, err := readDir(fd, c.dents)
	if err != nil {
		return &os.PathError{Op: "readdir", Path: path, Err: err}
	}

	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.child(ctx, fd, below, e.name, path+e.name); err != nil {
			return err
		}
	}

	return nil
}

func (c *comparer) child(ctx context.Context, parent, below int, name, path string) error {
	st, err := statAt(parent, name, path)
	if err != nil {
		return err
	}

	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && kind != unix.S_IFREG {
		return nil
	}

	was, err := statAt(below, name, path)
	if errors.Is(err, unix.ENOENT) || err == nil && was.Mode&unix.S_IFMT != kind {
		return nil
	}
	if err != nil {
		return err
	}
	if kind == unix.S_IFREG {
		c.file(st, was)
		return nil
	}

	fd, _, err := openAt(parent, name, path, unix.S_IFDIR)
	if err != nil {
		return err
	}
	defer closeFD(fd)

	under, _, err := openAt(below, name, path, unix.S_IFDIR)
	if err != nil {
		return err
	}
	defer closeFD(under)

	return c.children(ctx, fd, under, path+"/")
}

func (c *comparer) file(st, was *unix.Stat_t) {
	if st.Size != was.Size || st.Mtim != was.Mtim {
		return
	}
	if st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if c.seen[id] {
			return
		}
		c.seen[id] = true
	}
	c.bytes += st.Size
}
