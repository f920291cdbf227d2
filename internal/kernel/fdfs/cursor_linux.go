package fdfs

import (
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of one path: symbolic links that the path leads through, and directories below the root.
const (
	maxLinks = 255
	maxDepth = 4096
)

// Cursor stands in a directory below a root directory and moves by paths, such as "/etc/passwd".
// Symbolic links are followed inside the root, as after chroot(2): an absolute link starts at the
// root, and ".." stops at the root.
//
// Each step opens one component relative to the descriptor of the directory before, and ".."
// returns to the descriptor of the directory that the cursor came from. So a rename or a link that
// somebody makes meanwhile never leads outside. The rules are those of RESOLVE_IN_ROOT of
// openat2(2); a Cursor needs Linux 3.6 only, and it can make the directory that a dangling link
// points to.
//
// A Cursor is for one goroutine.
type Cursor struct {
	root  Dir
	stack []Dir // the directories below root that lead to the cursor, closed by the cursor
	names []string
	links int // symbolic links that the path has led through
}

// MakeDir makes the missing directory name of dir while a [Cursor] moves.
type MakeDir func(dir Dir, name string) error

// NewCursor returns a cursor that stands at root. The caller keeps root open while the cursor is
// used, and closes both.
func NewCursor(root Dir) *Cursor { return &Cursor{root: root} }

// Close closes every directory that the cursor opened. The cursor stands at the root then and can
// be used again.
func (c *Cursor) Close() {
	for _, dir := range c.stack {
		dir.Close() // only opened: there is nothing to lose
	}
	c.stack = c.stack[:0]
	c.names = c.names[:0]
}

// Dir returns the directory that the cursor stands in. It is valid until the cursor moves.
func (c *Cursor) Dir() Dir {
	if len(c.stack) == 0 {
		return c.root
	}
	return c.stack[len(c.stack)-1]
}

// Open opens the directory that the cursor stands in. The caller closes it.
func (c *Cursor) Open() (Dir, error) { return c.Dir().OpenDir(".") }

// Path returns the path of the cursor relative to the root, free of symbolic links, for example
// "usr/lib", or "." at the root.
func (c *Cursor) Path() string {
	if len(c.names) == 0 {
		return "."
	}
	return strings.Join(c.names, "/")
}

// Enter moves to the directory path: from the root if path is absolute, else from where the cursor
// stands. A missing component is made by mkdir, or is fs.ErrNotExist if mkdir is nil. A component
// that is not a directory is ENOTDIR. After an error the cursor stands in the directory of the
// component that failed.
func (c *Cursor) Enter(path string, mkdir MakeDir) error {
	c.links = 0
	return c.enter(path, mkdir)
}

// Resolve moves to the directory that holds the last component of path, and returns the name and
// the status of that component. While the component is a symbolic link, Resolve follows the link.
// If the component is missing, the error is nil and st.Type is Unknown. If path leads to the root
// or ends in "/", "." or "..", name is ".". Missing directories on the way are made by mkdir as in
// Enter.
func (c *Cursor) Resolve(path string, mkdir MakeDir) (name string, st Stat, err error) {
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
		path, err = c.readlink(last)
		if err != nil {
			return "", Stat{}, err
		}
	}
}

// enter is Enter for a part of a path.
func (c *Cursor) enter(path string, mkdir MakeDir) error {
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

// step moves by one component of a path.
func (c *Cursor) step(name string, mkdir MakeDir) error {
	switch name {
	case "", ".":
		return nil
	case "..":
		c.up()
		return nil
	}
	if len(c.stack) >= maxDepth {
		return pathError("open", name, unix.ENAMETOOLONG)
	}

	dir, err := c.Dir().OpenDir(name)
	if errors.Is(err, fs.ErrNotExist) && mkdir != nil {
		if err := mkdir(c.Dir(), name); err != nil {
			return err
		}
		dir, err = c.Dir().OpenDir(name)
	}
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return c.follow(name, mkdir)
	}
	if err != nil {
		return err
	}

	c.stack = append(c.stack, dir)
	c.names = append(c.names, name)
	return nil
}

// up moves to the directory that the cursor came from.
func (c *Cursor) up() {
	n := len(c.stack) - 1
	if n < 0 {
		return
	}
	c.stack[n].Close() // only opened: there is nothing to lose
	c.stack = c.stack[:n]
	c.names = c.names[:n]
}

// follow enters the directory that name, which is not a directory, links to.
func (c *Cursor) follow(name string, mkdir MakeDir) error {
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

func (c *Cursor) readlink(name string) (string, error) {
	c.links++
	if c.links > maxLinks {
		return "", pathError("open", name, unix.ELOOP)
	}
	return c.Dir().Readlink(name)
}

// split divides path before its last component. A trailing slash asks for a directory: the last
// component is "." then.
func split(path string) (dir, last string) {
	i := strings.LastIndexByte(path, '/')
	dir = path[:i+1]
	last = path[i+1:]
	if last == "" {
		last = "."
	}
	return dir, last
}
