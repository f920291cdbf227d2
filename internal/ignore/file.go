package ignore

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

const (
	maxFile = 16 << 20                   // bytes of an ignore file
	maxLine = bufio.MaxScanTokenSize - 1 // bytes of a line: the bound of the library
)

// Dockerfile is the place where a Dockerfile was found. The zero value is a Dockerfile from
// standard input.
type Dockerfile struct {
	Path      string // for example "app/Dockerfile"
	InContext bool   // Path is relative to the build context, and its symbolic links resolve in the context
}

// Error is an error in a line of an ignore file.
type Error struct {
	Dir  string // the directory of the file; empty if Name is a path
	Name string // for example ".dockerignore"
	Line int    // from 1
	Err  error
}

// Error returns, for example, `ctx/.dockerignore:2: pattern "[b": syntax error in pattern`.
func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d: %v", filepath.Join(e.Dir, e.Name), e.Line, e.Err)
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Read returns the patterns of the build context in the directory dir, and the name of the file
// that they come from, which is empty if there is no ignore file. It reads the first file that
// exists of
//
//   - NAME.dockerignore and NAME.containerignore next to each Dockerfile NAME of files, in or
//     outside of the context
//   - .containerignore and .dockerignore of the context
//
// A symbolic link of the context resolves inside the context. Only a regular file of at most 16 MiB
// is read.
func Read(dir string, files ...Dockerfile) (patterns []string, name string, err error) {
	for _, f := range files {
		if f.Path == "" {
			continue
		}
		for _, suffix := range []string{".dockerignore", ".containerignore"} {
			where := dir
			base := f.Path + suffix
			if !f.InContext {
				where = filepath.Dir(f.Path)
				base = filepath.Base(f.Path) + suffix
			}
			if patterns, ok, err := readIn(where, base); ok || err != nil {
				return patterns, f.Path + suffix, err
			}
		}
	}

	for _, name := range []string{".containerignore", ".dockerignore"} {
		if patterns, ok, err := readIn(dir, name); ok || err != nil {
			return patterns, name, err
		}
	}

	return nil, "", nil
}

// readIn reads the ignore file name below dir. ok is false if the file does not exist.
func readIn(dir, name string) (patterns []string, ok bool, err error) {
	root, err := os.Open(dir)
	if err != nil {
		return nil, false, fmt.Errorf("looking for %s: %w", name, err)
	}
	defer root.Close() // only opened

	text, err := fdfs.ReadFile(fdfs.OnDisk(root), name, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("reading %s: %w", filepath.Join(dir, name), err)
	}

	patterns, err = parse(text, dir, name)
	return patterns, true, err
}

// ReadFile returns the patterns of an ignore file that the user names. The file may be a pipe.
func ReadFile(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read

	text, err := bounded.ReadAll(f, maxFile, path)
	if err != nil {
		return nil, err
	}

	return parse(text, "", path)
}

// parse returns the patterns of an ignore file. If a line is wrong, the error is an [*Error].
func parse(text []byte, dir, name string) ([]string, error) {
	patterns, err := ignorefile.ReadAll(bytes.NewReader(text))
	if err == nil {
		_, err = New(patterns)
	}
	if err == nil {
		return patterns, nil
	}

	for i, line := range bytes.Split(text, []byte("\n")) {
		if lineErr := checkLine(line); lineErr != nil {
			return nil, &Error{Dir: dir, Name: name, Line: i + 1, Err: lineErr}
		}
	}

	return nil, fmt.Errorf("reading %s: %w", filepath.Join(dir, name), err)
}

// checkLine returns the error of one line.
func checkLine(line []byte) error {
	if len(line) > maxLine {
		return fmt.Errorf("the line has more than %d bytes", maxLine)
	}
	pattern, err := ignorefile.ReadAll(bytes.NewReader(line))
	if err != nil {
		return err
	}
	_, err = New(pattern)
	return err
}
