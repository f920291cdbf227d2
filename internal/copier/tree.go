package copier

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/patternmatcher/ignorefile"

	"codeberg.org/rbuild/rbuild/internal/bounded"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// maxIgnoreFile bounds an ignore file, in bytes.
const maxIgnoreFile = 16 << 20

// Tree is a source of files: a build context, or the root of a stage or image. It can be used by several Selects at once.
type Tree struct {
	root    fdfs.Dir
	owned   bool
	context bool     // files belong to root, whoever owns them on the host
	ignore  []string // patterns of what the tree does not have
}

// OpenContext opens the directory dir as a build context. Paths that the patterns of ignore match are not in it; see
// ReadIgnore. Close it when all that was selected from it has been written.
func OpenContext(dir string, ignore []string) (*Tree, error) {
	if _, err := newMatcher(ignore); err != nil {
		return nil, fmt.Errorf("ignore file: %w", err)
	}

	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("opening build context: %w", err)
	}
	if fi, err := f.Stat(); err != nil || !fi.IsDir() {
		f.Close()
		return nil, fmt.Errorf("build context %s is not a directory", dir)
	}
	return &Tree{root: fdfs.OnDisk(f), owned: true, context: true, ignore: ignore}, nil
}

// OpenRoot makes a tree of dir, the root directory of a stage or an image, whose owners, modes and capabilities are kept.
// dir stays the caller's and must stay open until all that was selected from it has been written.
func OpenRoot(dir fdfs.Dir) *Tree { return &Tree{root: dir} }

// Root is the directory that the tree is, with what the ignore file excludes. It is the tree's, or its caller's; nil: it is none of the kernel's.
func (t *Tree) Root() *os.File { return fdfs.FileOf(t.root) }

// Close closes the descriptor that OpenContext opened.
func (t *Tree) Close() error {
	if !t.owned {
		return nil
	}
	return t.root.Close()
}

// Dockerfile says where a Dockerfile was found. The zero value is none: it came from standard input.
type Dockerfile struct {
	Path      string
	InContext bool // Path is relative to the context, and symbolic links in it resolve there
}

// ReadIgnore reads the patterns of what the context directory dir shall not contain, from the first that exists of
// <Dockerfile>.dockerignore and <Dockerfile>.containerignore, next to each Dockerfile wherever that is, and
// .containerignore and .dockerignore in the context. Within the context a symbolic link resolves inside the context.
// name says which file was read and is empty if there is none.
func ReadIgnore(dir string, files ...Dockerfile) (patterns []string, name string, err error) {
	for _, f := range files {
		if f.Path == "" {
			continue
		}
		for _, suffix := range []string{".dockerignore", ".containerignore"} {
			where, base := dir, f.Path+suffix
			if !f.InContext {
				where, base = filepath.Dir(f.Path), filepath.Base(f.Path)+suffix
			}
			if patterns, ok, err := readIgnoreIn(where, base); ok || err != nil {
				return patterns, f.Path + suffix, err
			}
		}
	}

	for _, name := range []string{".containerignore", ".dockerignore"} {
		if patterns, ok, err := readIgnoreIn(dir, name); ok || err != nil {
			return patterns, name, err
		}
	}

	return nil, "", nil
}

// ReadIgnoreFile reads the patterns of the ignore file that a user names. It may be a pipe.
func ReadIgnoreFile(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := bounded.ReadAll(f, maxIgnoreFile, path)
	if err != nil {
		return nil, err
	}
	return parseIgnore(text, "", path)
}

// IgnoreError says which line of an ignore file is wrong.
type IgnoreError struct {
	Dir  string // where the file lies
	Name string // of the file below Dir, or its path
	Line int    // from 1
	Err  error
}

func (e *IgnoreError) Error() string {
	return fmt.Sprintf("%s:%d: %v", filepath.Join(e.Dir, e.Name), e.Line, e.Err)
}

func (e *IgnoreError) Unwrap() error { return e.Err }

// maxIgnoreLine is how long a line of an ignore file may be, in bytes: that of the library.
const maxIgnoreLine = bufio.MaxScanTokenSize - 1

// parseIgnore reads the patterns of the file name in dir, each of which is one that can be matched.
func parseIgnore(text []byte, dir, name string) ([]string, error) {
	patterns, err := ignorefile.ReadAll(bytes.NewReader(text))
	if err == nil {
		_, err = newMatcher(patterns)
	}
	if err == nil {
		return patterns, nil
	}

	for i, line := range bytes.Split(text, []byte("\n")) {
		one, lineErr := ignorefile.ReadAll(bytes.NewReader(line))
		if lineErr == nil {
			_, lineErr = newMatcher(one)
		}
		if len(line) > maxIgnoreLine {
			lineErr = fmt.Errorf("the line has more than %d bytes", maxIgnoreLine)
		}
		if lineErr != nil {
			return nil, &IgnoreError{Dir: dir, Name: name, Line: i + 1, Err: lineErr}
		}
	}

	return nil, fmt.Errorf("reading %s: %w", filepath.Join(dir, name), err)
}

func readIgnoreIn(dir, name string) (patterns []string, ok bool, err error) {
	root, err := os.Open(dir)
	if err != nil {
		return nil, false, fmt.Errorf("looking for %s: %w", name, err)
	}
	defer root.Close()

	text, err := readRegular(fdfs.OnDisk(root), name, maxIgnoreFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("reading %s: %w", filepath.Join(dir, name), err)
	}

	patterns, err = parseIgnore(text, dir, name)
	return patterns, true, err
}

// readRegular returns the content of the regular file path below root, at most limit bytes. Links resolve inside root;
// a fifo or a device is refused without waiting.
func readRegular(root fdfs.Dir, path string, limit int64) ([]byte, error) {
	c := fdfs.NewCursor(root)
	defer c.Close()

	name, st, err := c.Resolve(path, nil)
	if err != nil {
		return nil, err
	}
	if st.Type == fdfs.Unknown {
		return nil, &os.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	if st.Type != fdfs.Regular {
		return nil, fmt.Errorf("%s is a %s", path, st.Type)
	}

	f, st, err := c.Dir().OpenFile(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st.Type != fdfs.Regular {
		return nil, fmt.Errorf("%s is a %s", path, st.Type)
	}

	return bounded.ReadAll(f, limit, path)
}
