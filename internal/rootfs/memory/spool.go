package memory

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
)

// Spool holds the contents of files, one after the other, in a temporary file without a name, which
// goes with the process. Several trees may share a Spool, and several goroutines may use it.
type Spool struct {
	file *os.File
	next atomic.Int64 // offset of the first byte that is not reserved
}

// NewSpool creates an empty spool on the file system of the directory dir. The caller closes it
// after the trees that use it.
func NewSpool(dir string) (*Spool, error) {
	f, err := os.CreateTemp(dir, "spool-")
	if err != nil {
		return nil, fmt.Errorf("making a file for the contents of files: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Spool{file: f}, nil
}

// Close releases the space of all contents.
func (s *Spool) Close() error { return s.file.Close() }

// extent is a part of the spool, in bytes. No part is reserved twice, so bytes that were never
// written are zeros.
type extent struct{ at, size int64 }

func (s *Spool) reserve(size int64) extent {
	return extent{at: s.next.Add(size) - size, size: size}
}

func (s *Spool) reader(e extent) *io.SectionReader { return io.NewSectionReader(s, e.at, e.size) }

// ReadAt reads the spool. Beyond the end of the temporary file are zeros: the last extent may end
// in zeros that were not written.
func (s *Spool) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.file.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		clear(p[n:])
		return len(p), nil
	}
	return n, err
}
