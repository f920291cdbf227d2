package fdfs

import (
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links one path may lead through, and maxDepth how many directories deep it may lead.
const (
	maxLinks = 255
	maxDepth = 4096
)

// Cursor is a place below a root directory that moves by paths. Symbolic links are followed inside the root, as after
// chroot(2): an absolute one starts at the root and ".." stops there. Each step opens one component relative to the
// descriptor of the directory before it and ".." goes back to the descriptor it came from, so no rename or link made
// meanwhile leads outside, and no kernel newer than 3.6 is needed (openat2 has RESOLVE_IN_ROOT, but cannot make
// what a dangling link points to).
type Cursor struct {
	root  Dir
	stack []Dir // below root, owned
	names []string
	links int
}

// NewCursor returns a cursor that stands at root, which stays the caller's and must stay open.
func NewCursor(root Dir) *Cursor { return &Cursor{root: root} }

// Close closes every descriptor of the cursor. It can be used again and stands at the root.
func (c *Cursor) Close() {
	for _, f := range c.stack {
		f.Close()
	}
	c.stack, c.names = c.stack[:0], c.names[:0]
}

// Dir returns the directory the cursor stands in, a place (or the root as it was given),
// which is valid until the cursor moves.
func (c *Cursor) Dir() Dir {
	if len(c.stack) == 0 {
		return c.root
	}
	return c.stack[len(c.stack)-1]
}

// Open opens the directory the cursor stands in for reading; the caller closes it.
func (c *Cursor) Open() (Dir, error) { return c.Dir().OpenDir(".") }

// Path returns where the cursor stands, relative to the root and without symbolic links; "." at the root.
func (c *Cursor) Path() string {
	if len(c.names) == 0 {
		return "."
	}
	return strings.Join(c.names, "/")
}

// Enter moves to the directory path, from the root if it is absolute. A missing component is made by mkdir, if that is
// not nil, and is fs.ErrNotExist otherwise; what is not a directory is ENOTDIR. After an error the cursor stands where
// it went wrong.
func (c *Cursor) Enter(path string, mkdir func(dir Dir, name string) error) error {
	c.links = 0
	return c.enter(path, mkdir)
}

// Resolve moves to the directory that holds the last component of path, following it as long as it is a symbolic link,
// and returns its name there and what it is. A missing last component is no error: Type is Unknown then.
// name is "." where path leads to the root or ends in "." or "..".
func (c *Cursor) Resolve(path string, mkdir func(dir Dir, name string) error) (name string, st Stat, err error) {
	c.links = 0
	for {
		dir, last := split(path)
		if err := c.enter(dir, mkdir); err != nil {
			return "", Stat{}, err
		}
		if last == "." || last == ".." {
			err := c.enter(last, nil)
			return ".", Stat{Type: Directory}, err
		}

		st, err := c.Dir().Stat(last)
		if errors.Is(err, fs.ErrNotExist) {
			return last, Stat{}, nil
		}
		if err != nil || st.Type != Symlink {
			return last, st, err
		}
		if path, err = c.readlink(last); err != nil {
			return "", Stat{}, err
		}
	}
}

func (c *Cursor) enter(path string, mkdir func(dir Dir, name string) error) error {
	if strings.HasPrefix(path, "/") {
		c.Close()
	}
	for name := range strings.SplitSeq(path, "/") {
		if err := c.step(name, mkdir); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cursor) step(name string, mkdir func(dir Dir, name string) error) error {
	switch name {
	case "", ".":
		return nil
	case "..":
		if n := len(c.stack) - 1; n >= 0 {
			c.stack[n].Close()
			c.stack, c.names = c.stack[:n], c.names[:n]
		}
		return nil
	}

	if len(c.stack) >= maxDepth {
		return pathError("open", name, unix.ENAMETOOLONG)
	}

	f, err := c.Dir().OpenPlace(name)
	if errors.Is(err, fs.ErrNotExist) && mkdir != nil {
		if err := mkdir(c.Dir(), name); err != nil {
			return err
		}
		f, err = c.Dir().OpenPlace(name)
	}

	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		st, err := c.Dir().Stat(name)
		if err != nil {
			return err
		}
		if st.Type != Symlink {
			return pathError("open", name, unix.ENOTDIR)
		}

		target, err := c.readlink(name)
		if err != nil {
			return err
		}
		return c.enter(target, mkdir)
	}
	if err != nil {
		return err
	}

	c.stack, c.names = append(c.stack, f), append(c.names, name)

	return nil
}

func (c *Cursor) readlink(name string) (string, error) {
	if c.links++; c.links > maxLinks {
		return "", pathError("open", name, unix.ELOOP)
	}
	return c.Dir().Readlink(name)
}

// split divides path before its last component. A trailing slash asks for a directory, so the last is "." then.
func split(path string) (dir, last string) {
	i := strings.LastIndexByte(path, '/')
	dir, last = path[:i+1], path[i+1:]
	if last == "" {
		last = "."
	}
	return dir, last
}
