package copier

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// Selection is what a Spec names: digested, ready to be written.
type Selection struct {
	tree     *Tree
	spec     Spec
	chmod    modeChange
	items    []*item
	digest   digest.Digest
	warnings []string
	devices  Devices  // among the sources
	unpacked []string // warnings of the last Write
}

// item is one source: a file, a directory whose content is meant, an archive to unpack.
type item struct {
	name    string   // what a file is called where the destination is a directory
	tree    *Tree    // that it lies in; nil: none
	source  string   // as the user knows it, for messages
	where   string   // directory below the tree's root that holds it, free of links
	node    *node    // what it is
	data    []byte   // of an inline file
	remote  *os.File // of a file that was fetched: the content
	archive bool
}

// node is one inode of a selection. What is here is what the digest says and what will be written.
type node struct {
	name   string
	stat   fdfs.Stat
	sum    [32]byte // sha256 of a regular file
	caps   []byte   // security.capability of a regular file
	target string   // of a symbolic link
	link   *node    // earlier file of the selection that is the same inode
	shared bool     // a later file is the same inode
	racy   bool     // changed so shortly before it was read that another change might leave the same times
	known  string   // stands for the node in the digest; empty: nothing does
	merge  bool     // a directory that is only a way to something: its metadata counts only if it must be made
	kids   []*node  // of a directory, sorted by name
}

// errChanged says that a source is not what Select has seen.
var errChanged = errors.New("changed while it was being copied")

// Select finds what spec names in tree, and digests it all. tree may be nil if spec names no path. A plain
// source that does not exist is an error that names it and is fs.ErrNotExist; a pattern may match nothing.
// Close the Selection; what was fetched is the Selection's own, or closed if there is an error.
func Select(ctx context.Context, tree *Tree, spec Spec) (sel *Selection, err error) {
	sel = &Selection{tree: tree, spec: spec}
	defer func() {
		if err != nil {
			err = errors.Join(err, sel.Close())
			sel = nil
		}
	}()

	if err := checkSpec(&sel.spec); err != nil {
		return sel, err
	}
	if sel.chmod, err = parseChmod(spec.Chmod); err != nil {
		return sel, err
	}
	if err := sel.collect(ctx); err != nil {
		return sel, err
	}

	sel.digest = sel.sum()
	return sel, nil
}

// Digest covers all that decides what Write writes except what the destination already has: names, types, modes, owners
// as written, content, link targets, hard links, capabilities and the Spec; never times, nor where the sources lie on
// the host.
func (s *Selection) Digest() digest.Digest { return s.digest }

// Warnings returns lines about files that were left out: sockets and devices after Select, and after Write also the devices
// of archives.
func (s *Selection) Warnings() []string {
	out := slices.Clone(s.warnings)
	if text := s.devices.Text(); text != "" {
		out = append(out, text)
	}
	return append(out, s.unpacked...)
}

// Close closes what was fetched. Write is no longer possible.
func (s *Selection) Close() error {
	var errs []error
	for _, r := range s.spec.Remote {
		errs = append(errs, r.Close())
	}
	s.spec.Remote = nil
	return errors.Join(errs...)
}

func (s *Selection) warn(format string, args ...any) {
	s.warnings = append(s.warnings, fmt.Sprintf(format, args...))
}

// collect fills s.items.
func (s *Selection) collect(ctx context.Context) error {
	w, err := s.newWalker(ctx)
	if err != nil {
		return err
	}
	if err := w.pool.close(s.collectSources(w)); err != nil {
		return err
	}

	for _, f := range s.spec.Inline {
		s.items = append(s.items, inlineItem(f))
	}
	if err := s.detectArchives(); err != nil {
		return err
	}

	for _, it := range s.items {
		if err := checkName(it.name); err != nil && it.node.stat.Type != fdfs.Directory && !it.archive {
			return fmt.Errorf("source %s: %w", it.source, err)
		}
	}

	s.linkUp()

	return nil
}

func (s *Selection) collectSources(w *walker) error {
	for _, src := range s.spec.Sources {
		var err error
		remote, fetched := s.spec.Remote[src]
		switch {
		case fetched:
			err = w.addRemote(remote)
		case s.tree == nil:
			err = fmt.Errorf("source %s: no tree to copy from", src)
		case s.spec.literal:
			err = w.addPath(cleanSource(src))
		case s.spec.Parents:
			err = w.addParents(src)
		default:
			err = w.addSource(src)
		}
		if err != nil {
			return err
		}
	}

	return nil
}

// addSource adds what the path or pattern src names.
func (w *walker) addSource(src string) error {
	clean := cleanSource(src)
	if !slices.ContainsFunc(strings.Split(clean, "/"), hasWildcard) {
		return w.addPath(clean)
	}

	paths, err := w.expand(clean)
	if err != nil {
		return fmt.Errorf("source %s: %w", src, err)
	}

	for _, p := range paths {
		if err := w.addPath(p); err != nil && !errors.As(err, new(*excludedError)) && !errors.As(err, new(*leftOutError)) {
			return err
		}
	}

	return nil
}

// expand returns the paths that the pattern matches, sorted. Links that lead to its first wildcard are followed.
func (w *walker) expand(pattern string) ([]string, error) {
	parts := strings.Split(pattern, "/")
	wild := slices.IndexFunc(parts, hasWildcard)
	base := path.Join(parts[:wild]...)
	c := fdfs.NewCursor(w.tree.root)
	defer c.Close()
	if err := c.Enter("/"+base, nil); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return nil, err
	}

	dir, err := c.Open()
	if err != nil {
		return nil, err
	}
	defer dir.Close()

	paths, err := glob(dir, parts[wild:])
	for i := range paths {
		paths[i] = path.Join(base, paths[i])
	}

	return paths, err
}

// addPath adds what is at the clean path p, following links.
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

	real := path.Join(c.Path(), name)
	it := &item{name: path.Base(p), tree: w.tree, source: p, where: path.Dir(real)}
	if st.Type == fdfs.Directory {
		it.where = real
	}
	for _, q := range []string{p, real} {
		if out, err := w.ignored(q, st.Type == fdfs.Directory); err != nil || out {
			return cmp.Or(err, w.excluded(p, q))
		}
	}

	if st.Type == fdfs.Directory {
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

	w.sel.items = append(w.sel.items, it)

	return nil
}

// ignored reports whether the tree is to be taken as not having p. A directory below which
// something may be included again counts as there.
func (w *walker) ignored(p string, dir bool) (bool, error) {
	out, _, err := w.ignore.path(p)
	if err != nil {
		return false, fmt.Errorf("ignore file: %w", err)
	}
	return out && (!dir || !w.ignore.mayMatchBelow(p, true)), nil
}

// excludedError says that the ignore file excludes a source. It is fs.ErrNotExist, too.
type excludedError struct {
	source  string
	path    string // where source leads by symbolic links
	pattern string // the last one that matches path; empty: it matches what is below only
}

func (e *excludedError) Error() string {
	by, which := "the ignore file", "it"
	if e.pattern != "" {
		by = fmt.Sprintf("the pattern %q of the ignore file", e.pattern)
	}
	if e.path != e.source {
		which = e.path + ", to which it leads"
	}
	return fmt.Sprintf("source %s: %s excludes %s", e.source, by, which)
}

func (e *excludedError) Is(target error) bool { return target == fs.ErrNotExist }

// leftOutError is the error for a source that cannot be in an image, for example a socket. If a pattern matches the
// file, the file is left out instead.
type leftOutError struct{ kind fdfs.Type }

func (e *leftOutError) Error() string { return fmt.Sprintf("a %s cannot be copied", e.kind) }

// excluded is the error about a source that leads to path, which the ignore file excludes.
func (w *walker) excluded(source, path string) error {
	return &excludedError{source: source, path: path, pattern: w.ignore.because(path)}
}

// cleanSource returns src relative to the root of its tree; ".." stops there.
func cleanSource(src string) string {
	if clean := path.Clean("/" + src)[1:]; clean != "" {
		return clean
	}
	return "."
}

// hasWildcard reports whether a component of a source is a pattern. A backslash alone does not make it one.
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

// glob returns the paths below dir that match parts component by component, sorted. Links on the way are not followed.
func glob(dir fdfs.Dir, parts []string) ([]string, error) {
	if _, err := path.Match(parts[0], ""); err != nil {
		return nil, fmt.Errorf("pattern %q: %w", parts[0], err)
	}

	names, err := readNames(dir)
	if err != nil {
		return nil, err
	}

	var out []string
	for _, name := range names {
		if ok, _ := path.Match(parts[0], name); !ok {
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

func globBelow(dir fdfs.Dir, name string, parts []string) ([]string, error) {
	st, err := dir.Stat(name)
	if err != nil || st.Type != fdfs.Directory {
		return nil, err
	}

	sub, err := dir.OpenDir(name)
	if err != nil {
		return nil, err
	}
	defer sub.Close()

	out, err := glob(sub, parts)
	for i := range out {
		out[i] = path.Join(name, out[i])
	}
	return out, err
}

// readNames returns the names in dir, sorted.
func readNames(dir fdfs.Dir) ([]string, error) {
	names, err := dir.Names()
	slices.Sort(names)
	return names, err
}

// checkName refuses names that mean something else in a layer (image-spec, layer.md: whiteouts).
func checkName(name string) error {
	if strings.HasPrefix(name, ".wh.") {
		return fmt.Errorf("%s: a name that begins with .wh. means a deletion in a layer", name)
	}
	return nil
}

// linkUp ties together files that are one inode, in the order in which they will be written: those of one source
// directory, and the single files among themselves. Of two sources one may write over the other.
func (s *Selection) linkUp() {
	type inode struct{ dev, ino uint64 }
	var first map[inode]*node
	var visit func(n *node)
	visit = func(n *node) {
		if n.stat.Type == fdfs.Regular && n.stat.Nlink > 1 {
			key := inode{n.stat.Dev, n.stat.Ino}
			if f := first[key]; f == nil {
				first[key] = n
			} else if f.sum == n.sum {
				n.link, f.shared = f, true
			}
		}
		for _, kid := range n.kids {
			visit(kid)
		}
	}

	single := false
	for _, it := range s.items {
		was := single
		single = it.node.stat.Type == fdfs.Regular && !it.archive
		if !single || !was {
			first = map[inode]*node{}
		}
		if !it.archive {
			visit(it.node)
		}
	}
}
