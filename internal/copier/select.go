package copier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"

	"codeberg.org/rbuild/rbuild/internal/archive"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// Selection holds the files that a [Spec] names, digested and ready to be written.
type Selection struct {
	tree     *Tree
	spec     Spec
	rules    rules
	items    []*item
	digest   digest.Digest
	warnings []string
	devices  archive.Devices // devices among the sources, which were left out
	unpacked []string        // warnings of the last Write about archives
}

// errChanged says that a source is not as Select found it.
var errChanged = errors.New("changed while it was being copied")

// Select finds the files that spec names in tree, and digests them. tree may be nil if spec names
// no path. If a source that is no pattern does not exist, the error names the source and is
// fs.ErrNotExist. A pattern may match nothing.
//
// The caller closes the Selection. The files of spec.Remote belong to the Selection; after an error
// they are closed.
func Select(ctx context.Context, tree *Tree, spec Spec) (*Selection, error) {
	s, err := selectFiles(ctx, tree, spec)
	if err != nil {
		return nil, errors.Join(err, closeRemotes(spec.Remote))
	}
	return s, nil
}

func selectFiles(ctx context.Context, tree *Tree, spec Spec) (*Selection, error) {
	spec, err := spec.clean()
	if err != nil {
		return nil, err
	}
	r, err := newRules(tree, spec)
	if err != nil {
		return nil, err
	}

	w, err := newWalker(ctx, tree, spec)
	if err != nil {
		return nil, err
	}
	if err := w.pool.close(w.addSources()); err != nil {
		return nil, err
	}
	items := w.items
	for _, f := range spec.Inline {
		items = append(items, inlineItem(f))
	}

	if err := findArchives(spec, items); err != nil {
		return nil, err
	}
	for _, it := range items {
		if err := archive.CheckName(it.name); err != nil && !it.node.isDir() && !it.archive {
			return nil, fmt.Errorf("source %s: %w", it.source, err)
		}
	}
	linkUp(items)

	return &Selection{
		tree: tree, spec: spec, rules: r, items: items, digest: digestItems(spec, r, items),
		warnings: w.warnings, devices: w.devices,
	}, nil
}

// Digest returns the digest of everything that decides what Write writes, except the files that the
// destination has already: names, types, modes and owners as they are written, contents, link
// targets, hard links, capabilities and the Spec. Times and the place of the sources on the host
// are not part of it.
func (s *Selection) Digest() digest.Digest { return s.digest }

// Warnings returns lines about files that were left out: sockets and devices after Select, and
// after Write also the devices of archives.
func (s *Selection) Warnings() []string {
	out := slices.Clone(s.warnings)
	if text := s.devices.Text(); text != "" {
		out = append(out, text)
	}
	return append(out, s.unpacked...)
}

// Close closes the fetched files. Write is no longer possible.
func (s *Selection) Close() error {
	err := closeRemotes(s.spec.Remote)
	s.spec.Remote = nil
	return err
}

func closeRemotes(remotes map[string]Remote) error {
	var errs []error
	for _, r := range remotes {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}

// findArchives marks the items that ADD unpacks.
func findArchives(spec Spec, items []*item) error {
	for _, it := range items {
		if it.node.stat.Type != fdfs.Regular || it.data != nil || !spec.unpacks(it.remote != nil) {
			continue
		}
		f, err := it.open()
		if err != nil {
			return err
		}
		it.archive = archive.IsArchive(f)
		f.Close() // only read
	}

	return nil
}

// open opens the content of a regular file that is no here-document, from its beginning.
func (it *item) open() (io.ReadCloser, error) {
	if it.remote != nil {
		return io.NopCloser(io.NewSectionReader(it.remote, 0, it.node.stat.Size)), nil
	}

	c := fdfs.NewCursor(it.tree.root)
	defer c.Close()
	if err := c.Enter("/"+it.where, nil); err != nil {
		return nil, fmt.Errorf("source %s: %w", it.source, err)
	}
	f, st, err := c.Dir().OpenFile(it.node.name)
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", it.source, err)
	}
	if st.Type != fdfs.Regular {
		return nil, fmt.Errorf("source %s: %w", it.source, errors.Join(errChanged, f.Close()))
	}

	return f, nil
}
