package copy

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"codeberg.org/rbuild/rbuild/pkg/internal/linux"
)

// addParents adds what src matches with the directories that lead to it: from the pivot /./ on, or from the root.
func (w *walker) addParents(src string) error {
	base, pattern, hasPivot := strings.Cut(src, "/./")
	if !hasPivot {
		base, pattern = "", src
	}
	pattern = cleanSource(pattern)
	if pattern == "." {
		return fmt.Errorf("source %s: --parents needs a path below it", src)
	}
	include, err := newMatcher([]string{escapeBang(pattern)})
	if err != nil {
		return fmt.Errorf("source %s: %w", src, err)
	}
	bases, err := w.parentBases(cleanSource(base))
	if err != nil {
		return fmt.Errorf("source %s: %w", src, err)
	}
	found := false
	for _, b := range bases {
		ok, err := w.addBelow(b, src, include)
		if err != nil {
			return err
		}
		found = found || ok
	}
	if !found && !slices.ContainsFunc(strings.Split(src, "/"), hasWildcard) {
		return fmt.Errorf("source %s: %w", src, fs.ErrNotExist)
	}
	return nil
}

// parentBases expands what stands before a pivot.
func (w *walker) parentBases(base string) ([]string, error) {
	if !slices.ContainsFunc(strings.Split(base, "/"), hasWildcard) {
		return []string{base}, nil
	}
	return w.expand(base)
}

// addBelow adds what include selects below the directory base.
func (w *walker) addBelow(base, src string, include *matcher) (found bool, err error) {
	c := linux.NewCursor(w.tree.root)
	defer c.Close()
	if err := c.Enter("/"+base, nil); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, fmt.Errorf("source %s: %w", src, err)
	}
	n, err := w.directory(c, c.Path(), include)
	if err != nil || n == nil || len(n.kids) == 0 {
		return false, err
	}
	w.sel.items = append(w.sel.items, &item{name: path.Base(base), tree: w.tree, source: src, where: c.Path(), node: n})
	return true, nil
}
