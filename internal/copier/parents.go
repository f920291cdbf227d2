package copier

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
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

	base = cleanSource(base)
	bases, isPattern, err := w.parentBases(base)
	if err != nil {
		return fmt.Errorf("source %s: %w", src, err)
	}

	found := false
	for _, b := range bases {
		ok, err := w.addBelow(b, src, include)
		if isPattern && errors.As(err, new(*excludedError)) {
			continue
		}
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

// parentBases expands the part before a pivot. isPattern reports whether it is a pattern.
func (w *walker) parentBases(base string) (paths []string, isPattern bool, err error) {
	if !slices.ContainsFunc(strings.Split(base, "/"), hasWildcard) {
		return []string{base}, false, nil
	}
	paths, err = w.expand(base)
	return paths, true, err
}

// addBelow adds the files that include selects below the directory base, which has to exist. Where nothing is selected
// the destination is made all the same, as in the reference engine. found reports whether something is.
func (w *walker) addBelow(base, src string, include *matcher) (found bool, err error) {
	c := fdfs.NewCursor(w.tree.root)
	defer c.Close()
	if err := c.Enter("/"+base, nil); err != nil {
		return false, fmt.Errorf("source %s: directory %s: %w", src, base, err)
	}

	if base != "." {
		if out, err := w.ignored(c.Path(), true); err != nil || out {
			return false, cmp.Or(err, w.excluded(base, c.Path()))
		}
	}

	n, err := w.directory(c, c.Path(), include)
	if err != nil {
		return false, err
	}

	if n == nil {
		n = &node{stat: fdfs.Stat{Type: fdfs.Directory}}
	}
	w.sel.items = append(w.sel.items, &item{name: path.Base(base), tree: w.tree, source: src, where: c.Path(), node: n})
	return len(n.kids) > 0, nil
}
