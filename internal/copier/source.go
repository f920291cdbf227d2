package copier

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/ignore"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// addSources adds the items of all sources.
func (w *walker) addSources() error {
	for _, source := range w.spec.Sources {
		if err := w.addSource(source); err != nil {
			return err
		}
	}
	return nil
}

// addSource adds the items of one source.
func (w *walker) addSource(source string) error {
	if remote, ok := w.spec.Remote[source]; ok {
		return w.addRemote(remote)
	}
	switch {
	case w.tree == nil:
		return fmt.Errorf("source %s: no tree to copy from", source)
	case w.spec.literal:
		return w.addPath(cleanSource(source))
	case w.spec.Parents:
		return w.addWithParents(source)
	case isPattern(cleanSource(source)):
		return w.addPattern(source)
	}

	return w.addPath(cleanSource(source))
}

// addPattern adds the paths that a pattern matches. Matched files that are excluded or that no
// image can have are left out.
func (w *walker) addPattern(source string) error {
	paths, err := w.expand(cleanSource(source))
	if err != nil {
		return fmt.Errorf("source %s: %w", source, err)
	}
	for _, p := range paths {
		err := w.addPath(p)
		if errors.As(err, new(*excludedError)) || errors.As(err, new(*leftOutError)) {
			continue
		}
		if err != nil {
			return err
		}
	}

	return nil
}

// addPath adds the file or directory at the clean path p. Symbolic links are followed.
func (w *walker) addPath(p string) error {
	c := fdfs.NewCursor(w.tree.root)
	defer c.Close()

	name, st, err := c.Resolve("/"+p, nil)
	if err != nil {
		return fmt.Errorf("source %s: %w", p, err)
	}
	if st.Type == fdfs.Unknown {
		return fmt.Errorf("source %s: %w", p, fs.ErrNotExist)
	}
	isDir := st.Type == fdfs.Directory
	real := path.Join(c.Path(), name)
	for _, q := range []string{p, real} {
		if err := w.checkIncluded(p, q, isDir); err != nil {
			return err
		}
	}

	it := &item{name: path.Base(p), tree: w.tree, source: p, where: path.Dir(real)}
	if isDir {
		it.where = real
		if err := c.Enter(name, nil); err != nil {
			return fmt.Errorf("source %s: %w", p, err)
		}
		it.node, err = w.directory(c, real, nil)
	} else {
		it.node, err = w.single(c, name, p)
	}
	if err != nil {
		return err
	}
	if it.node == nil {
		return w.excluded(p, real)
	}
	w.items = append(w.items, it)
	return nil
}

// addWithParents adds the files that a source of --parents matches, with the directories that lead
// to them: from the pivot "/./" on, or from the root. For example, of "a/./b/*.c" the part "b/x.c"
// is kept.
func (w *walker) addWithParents(source string) error {
	base, pattern, hasPivot := strings.Cut(source, "/./")
	if !hasPivot {
		base = ""
		pattern = source
	}
	pattern = cleanSource(pattern)
	if pattern == "." {
		return fmt.Errorf("source %s: --parents needs a path below it", source)
	}
	include, err := ignore.New([]string{ignore.EscapeBang(pattern)})
	if err != nil {
		return fmt.Errorf("source %s: %w", source, err)
	}

	base = cleanSource(base)
	bases := []string{base}
	if isPattern(base) {
		bases, err = w.expand(base)
		if err != nil {
			return fmt.Errorf("source %s: %w", source, err)
		}
	}

	found := false
	for _, b := range bases {
		ok, err := w.addBelow(b, source, include)
		if isPattern(base) && errors.As(err, new(*excludedError)) {
			continue
		}
		if err != nil {
			return err
		}
		found = found || ok
	}
	if !found && !isPattern(source) {
		return fmt.Errorf("source %s: %w", source, fs.ErrNotExist)
	}

	return nil
}

// addBelow adds the files below the directory base that include matches, and reports whether there
// are any. The directory must exist. If no file matches, the destination is made all the same, as
// in BuildKit.
func (w *walker) addBelow(base, source string, include *ignore.Matcher) (found bool, err error) {
	c := fdfs.NewCursor(w.tree.root)
	defer c.Close()

	if err := c.Enter("/"+base, nil); err != nil {
		return false, fmt.Errorf("source %s: directory %s: %w", source, base, err)
	}
	if base != "." {
		if err := w.checkIncluded(base, c.Path(), true); err != nil {
			return false, err
		}
	}

	n, err := w.directory(c, c.Path(), include)
	if err != nil {
		return false, err
	}
	if n == nil {
		n = &node{stat: fdfs.Stat{Type: fdfs.Directory}}
	}
	w.items = append(w.items, &item{name: path.Base(base), tree: w.tree, source: source, where: c.Path(), node: n})
	return len(n.kids) > 0, nil
}

// addRemote adds a fetched source.
func (w *walker) addRemote(r Remote) error {
	if r.Tree != nil {
		return w.addRemoteTree(r)
	}

	name := r.Name
	if name == "" {
		if namesDir(w.spec.Dest) {
			return errors.New("source " + r.Text + ": the URL names no file, so the destination must")
		}
		name = "download"
	}
	n := &node{name: name, sum: r.Sum, stat: fileStat(0o600, r.Size, r.Time)}
	w.items = append(w.items, &item{name: name, source: r.Text, remote: r.File, node: n})
	return nil
}

// addRemoteTree adds the content of a fetched tree.
func (w *walker) addRemoteTree(r Remote) error {
	tree, patterns := w.tree, w.ignore
	w.tree = r.Tree
	w.ignore = nil
	err := w.addPath(".")
	w.tree = tree
	w.ignore = patterns
	if err != nil {
		return err
	}

	it := w.items[len(w.items)-1]
	it.source = r.Text
	for _, kid := range it.node.kids {
		if kid.name == ".git" && r.Commit != "" {
			kid.known = r.Commit
		}
	}

	return nil
}

// checkIncluded returns an error if the ignore file excludes path, to which source leads.
func (w *walker) checkIncluded(source, path string, isDir bool) error {
	out, err := w.ignore.Excludes(path, isDir)
	if err != nil {
		return fmt.Errorf("ignore file: %w", err)
	}
	if out {
		return w.excluded(source, path)
	}
	return nil
}

// excluded returns the error about a source that leads to path, which the ignore file excludes.
func (w *walker) excluded(source, path string) error {
	return &excludedError{source: source, path: path, pattern: w.ignore.Because(path)}
}

// excludedError says that the ignore file excludes a source. It is fs.ErrNotExist.
type excludedError struct {
	source  string
	path    string // the path to which source leads by symbolic links
	pattern string // the last pattern that matches path; empty: patterns match all files below path, but not path
}

func (e *excludedError) Error() string {
	by := "the ignore file"
	if e.pattern != "" {
		by = fmt.Sprintf("the pattern %q of the ignore file", e.pattern)
	}
	which := "it"
	if e.path != e.source {
		which = e.path + ", to which it leads"
	}
	return fmt.Sprintf("source %s: %s excludes %s", e.source, by, which)
}

func (e *excludedError) Is(target error) bool { return target == fs.ErrNotExist }

// leftOutError is the error about a source that no image can have, for example a socket. If a
// pattern matches the file, the file is left out instead.
type leftOutError struct{ kind fdfs.Type }

func (e *leftOutError) Error() string { return fmt.Sprintf("a %s cannot be copied", e.kind) }

// cleanSource returns the path of a source relative to the root of its tree, or "." for the root.
// ".." stops at the root.
func cleanSource(source string) string {
	if clean := path.Clean("/" + source)[1:]; clean != "" {
		return clean
	}
	return "."
}

// isPattern reports whether a source is a pattern.
func isPattern(source string) bool {
	return slices.ContainsFunc(strings.Split(source, "/"), hasWildcard)
}

// hasWildcard reports whether a component of a source is a pattern. A backslash escapes the next
// character.
func hasWildcard(part string) bool {
	for i := 0; i < len(part); i++ {
		switch part[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

// expand returns the paths that the pattern matches, sorted. Symbolic links are followed before the
// first wildcard only.
func (w *walker) expand(pattern string) ([]string, error) {
	parts := strings.Split(pattern, "/")
	wild := slices.IndexFunc(parts, hasWildcard)
	base := path.Join(parts[:wild]...)

	c := fdfs.NewCursor(w.tree.root)
	defer c.Close()
	err := c.Enter("/"+base, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}

	paths, err := glob(c.Dir(), parts[wild:])
	for i := range paths {
		paths[i] = path.Join(base, paths[i])
	}

	return paths, err
}

// glob returns the paths below dir that match parts component by component, sorted. Symbolic links
// are not followed.
func glob(dir fdfs.Dir, parts []string) ([]string, error) {
	if _, err := path.Match(parts[0], ""); err != nil {
		return nil, fmt.Errorf("pattern %q: %w", parts[0], err)
	}
	names, err := sortedNames(dir)
	if err != nil {
		return nil, err
	}

	var out []string
	for _, name := range names {
		if ok, _ := path.Match(parts[0], name); !ok { // the error was checked above
			continue
		}
		if len(parts) == 1 {
			out = append(out, name)
			continue
		}
		below, err := globBelow(dir, name, parts[1:])
		if err != nil {
			return nil, err
		}
		out = append(out, below...)
	}

	return out, nil
}

// globBelow is glob for the subdirectory name of dir, with paths that begin with name. A file has
// no paths below.
func globBelow(dir fdfs.Dir, name string, parts []string) ([]string, error) {
	st, err := dir.Stat(name)
	if err != nil || st.Type != fdfs.Directory {
		return nil, err
	}
	sub, err := dir.OpenDir(name)
	if err != nil {
		return nil, err
	}
	defer sub.Close() // only opened

	out, err := glob(sub, parts)
	for i := range out {
		out[i] = path.Join(name, out[i])
	}

	return out, err
}

// sortedNames returns the names in dir, sorted.
func sortedNames(dir fdfs.Dir) ([]string, error) {
	names, err := dir.Names()
	slices.Sort(names)
	return names, err
}
