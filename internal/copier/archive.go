package copier

import (
	"errors"
	"fmt"
	"io"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// detectArchives finds out which items ADD unpacks.
func (s *Selection) detectArchives() error {
	if !s.spec.Add || s.spec.Unpack != nil && !*s.spec.Unpack {
		return nil
	}

	for _, it := range s.items {
		if it.node.stat.Type != fdfs.Regular || it.data != nil || it.remote != nil && s.spec.Unpack == nil {
			continue
		}
		f, err := s.openItem(it)
		if err != nil {
			return err
		}
		it.archive = isArchive(f)
		f.Close()
	}

	return nil
}

// openItem opens the content of a regular file from its beginning.
func (s *Selection) openItem(it *item) (io.ReadCloser, error) {
	if it.remote != nil {
		return io.NopCloser(io.NewSectionReader(it.remote, 0, it.node.stat.Size)), nil
	}

	c := fdfs.NewCursor(it.tree.root)
	defer c.Close()

	var f fdfs.File
	err := c.Enter("/"+it.where, nil)
	if err == nil {
		var st fdfs.Stat
		f, st, err = c.Dir().OpenFile(it.node.name)
		if err == nil && st.Type != fdfs.Regular {
			err = errors.Join(errChanged, f.Close())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", it.source, err)
	}
	return f, nil
}

// writeArchive unpacks it into the destination.
func (w *writer) writeArchive(it *item) error {
	if err := w.enterDest(); err != nil {
		return err
	}

	in, err := w.openItem(it)
	if err != nil {
		return err
	}
	defer in.Close()

	x := newExtractor(w.pool.ctx, w.into.Dir)
	x.owned, x.chown, x.strict = true, w.spec.Chown, true
	w.self.hash.Reset()
	raw := io.TeeReader(in, w.self.hash)
	if err := x.extract(raw); err != nil {
		return fmt.Errorf("unpacking %s: %w", it.source, err)
	}
	if _, err := io.CopyBuffer(io.Discard, raw, w.self.buf); err != nil {
		return fmt.Errorf("unpacking %s: %w", it.source, err)
	}

	var sum [32]byte
	if w.self.hash.Sum(sum[:0]); sum != it.node.sum {
		return fmt.Errorf("unpacking %s: %w", it.source, errChanged)
	}

	if text := x.out.Text(); text != "" {
		w.unpacked = append(w.unpacked, it.source+": "+text)
	}

	return nil
}
