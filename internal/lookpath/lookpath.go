// Package program finds programs of the host by name. It is the only look-up of such programs in this project.
//
//	file, err := program.Find(os.Getenv("PATH"), "pasta", "slirp4netns")
//
// Only absolute directories of a PATH count. An empty element and an element such as "." or "bin" mean a directory below the
// current one, which often holds the files of others: a build context, a checkout. A program there is never started.
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

// Dirs returns the absolute directories of path, a list as in PATH, in their order.
func Dirs(path string) []string {
	return slices.DeleteFunc(filepath.SplitList(path), func(dir string) bool { return !filepath.IsAbs(dir) })
}

// Clean returns path without the directories that are not absolute.
func Clean(path string) string { return strings.Join(Dirs(path), string(filepath.ListSeparator)) }

// Find returns the absolute path of the first of the named programs that a directory of path holds as a regular file with an
// execute bit. An earlier name wins over an earlier directory. The error is ErrNotFound if there is no such file.
func Find(path string, names ...string) (string, error) {
	for _, name := range names {
		if name == "" || name != filepath.Base(name) {
			return "", fmt.Errorf("program %q: %w", name, errors.ErrUnsupported)
		}
		for _, dir := range Dirs(path) {
			file := filepath.Join(dir, name)
			info, err := os.Stat(file)
			if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return file, nil
			}
		}
	}

	return "", ErrNotFound
}
