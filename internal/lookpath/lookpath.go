// Package lookpath finds programs of the host, such as git and pasta, by name. No other package
// looks up programs.
//
//	file, err := lookpath.Find("/usr/bin:/bin", "pasta", "slirp4netns") // "/usr/bin/pasta"
//
// Only absolute directories of a PATH count. An empty element, and an element such as "." or "bin",
// means a directory below the current directory, which often holds the files of other people: a
// build context, a checkout. A program in such a directory is never started.
package lookpath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ErrNotFound is the error of Find if no directory holds the program.
var ErrNotFound = fmt.Errorf("no absolute directory of PATH holds the program: %w", fs.ErrNotExist)

// Dirs returns the absolute directories of path, which is a list as in PATH, in the order of the
// list.
func Dirs(path string) []string {
	return slices.DeleteFunc(filepath.SplitList(path), func(dir string) bool { return !filepath.IsAbs(dir) })
}

// Clean returns path without the directories that are not absolute.
func Clean(path string) string { return strings.Join(Dirs(path), string(filepath.ListSeparator)) }

// Find returns the absolute path of the first named program that a directory of path holds as a
// regular file with an execute bit. An earlier name wins over an earlier directory. A name is one
// component, such as "git". The error is ErrNotFound if no directory holds a program.
func Find(path string, names ...string) (string, error) {
	for _, name := range names {
		if name == "" || name != filepath.Base(name) {
			return "", fmt.Errorf("program %q: %w", name, errors.ErrUnsupported)
		}
		for _, dir := range Dirs(path) {
			file := filepath.Join(dir, name)
			info, err := os.Stat(file)
			if err != nil {
				continue
			}
			if info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return file, nil
			}
		}
	}

	return "", ErrNotFound
}
