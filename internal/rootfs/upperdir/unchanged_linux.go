package upperdir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// Unchanged returns the number of bytes in regular files of dir that exist in below, the directory
// of the layers below, with the same path, size and modification time. overlayfs copied such a file
// up because a step changed its owner, mode or other attributes, so the image stores the content
// twice. A file with several names in dir counts once. Unchanged reads no content. Both directories
// stay open; the caller must have permission to read all files below them.
func Unchanged(ctx context.Context, dir, below *os.File) (bytes int64, err error) {
	c := comparer{seen: map[inode]bool{}, dents: make([]byte, dentsSize)}
	if err := c.children(ctx, fdfs.FDOf(dir), fdfs.FDOf(below), ""); err != nil {
		return 0, fmt.Errorf("comparing a layer with the layers below: %w", err)
	}
	return c.bytes, nil
}

// inode identifies a file with several names.
type inode struct{ dev, ino uint64 }

type comparer struct {
	bytes int64
	seen  map[inode]bool // files with several names
	dents []byte
}

func (c *comparer) children(ctx context.Context, fd, below fdfs.FD, path string) error {
	entries, err := fd.Dirents(c.dents)
	if err != nil {
		return fdfs.PathError("readdir", path, err)
	}

	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.child(ctx, fd, below, e.Name, path+e.Name); err != nil {
			return err
		}
	}

	return nil
}

func (c *comparer) child(ctx context.Context, parent, below fdfs.FD, name, path string) error {
	st, err := parent.Stat(name)
	if err != nil {
		return fdfs.PathError("stat", path, err)
	}
	if st.Type != fdfs.Directory && st.Type != fdfs.Regular {
		return nil
	}

	was, err := below.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fdfs.PathError("stat", path, err)
	}
	if was.Type != st.Type {
		return nil
	}
	if st.Type == fdfs.Regular {
		c.file(st, was)
		return nil
	}

	fd, err := openDir(parent, name, path)
	if err != nil {
		return err
	}
	defer fd.Close()

	under, err := openDir(below, name, path)
	if err != nil {
		return err
	}
	defer under.Close()

	return c.children(ctx, fd, under, path+"/")
}

func (c *comparer) file(st, was fdfs.Stat) {
	if st.Size != was.Size || st.Mtime != was.Mtime {
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
