package copier

import (
	"bytes"
	"fmt"
	"io"
	"sync/atomic"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/sparse"
)

// minHole is the shortest run of zeros that becomes a hole, in bytes: a block of usual file systems.
const minHole = 4 << 10

// Bounds of the zeros that an archive may unpack to: a few bytes can stand for a terabyte of them.
const (
	freeZeros  = 32 << 30 // bytes that may be zeros in any case
	zerosShare = 100      // bytes of zeros for each byte of the archive as it is stored
)

// zeroBlock is never written to.
var zeroBlock [64 << 10]byte

func allZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), len(zeroBlock))
		if !bytes.Equal(b[:n], zeroBlock[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}

// counter counts what is read through it.
type counter struct {
	r io.Reader
	n atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// skip counts zeros that are not written, and refuses too many for the archive.
func (x *extractor) skip(n int) error {
	x.zeros += int64(n)
	if read := x.source.n.Load(); x.zeros > freeZeros+zerosShare*read {
		return fmt.Errorf("the files of the archive are %d GiB of zeros so far, out of %d bytes that were read: a bomb?",
			x.zeros>>30, read)
	}
	return nil
}

// sparseWriter writes a file from its start, with holes for zeros. Finish ends it.
type sparseWriter struct {
	f     fdfs.File
	off   int64
	holes bool // there was one: the file's own offset is not off any more
}

func (s *sparseWriter) Write(p []byte) (n int, err error) {
	switch {
	case len(p) >= minHole && allZero(p):
		n, s.holes = len(p), true
	case s.holes:
		n, err = s.f.WriteAt(p, s.off)
	default:
		n, err = s.f.Write(p)
	}
	s.off += int64(n)
	return n, err
}

func (s *sparseWriter) finish() error {
	if !s.holes {
		return nil
	}
	return s.f.Truncate(s.off)
}

// readFile copies a file of the expected size to the writer to, and returns the number of bytes. Holes are not read. If the
// file has large holes, readFile calls large first, which may be nil.
func (w *worker) readFile(f fdfs.File, expected int64, to io.Writer, large func(data int64)) (size int64, err error) {
	disk := fdfs.DiskFile(f)
	if disk == nil || expected <= bufferSize {
		return w.read(f, expected, to)
	}

	data, err := fdfs.DataOf(int(disk.Fd()), disk.Name(), expected)
	if err != nil {
		return 0, err
	}
	if data == expected {
		if _, err := disk.Seek(0, io.SeekStart); err != nil { // looking for holes moved it
			return 0, err
		}
		return w.read(f, expected, to)
	}

	if large != nil && expected-data >= sparse.Large {
		large(data)
	}

	for off := int64(0); off < expected; {
		start, end, ok, err := fdfs.NextData(disk, off, expected)
		if err != nil {
			return off, err
		}

		if !ok {
			start, end = expected, expected
		}
		start, end = min(start, expected), min(end, expected)
		if err := w.zeros(to, start-off); err != nil {
			return off, err
		}

		n, err := w.read(io.NewSectionReader(disk, start, end-start), end-start, to)
		if err != nil {
			return start + n, err
		}
		if off = start + n; n < end-start {
			return off, nil // it became shorter
		}
	}

	return expected, nil
}

// zeros writes n zeros.
func (w *worker) zeros(to io.Writer, n int64) error {
	for n > 0 {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		wrote, err := to.Write(zeroBlock[:min(n, int64(len(zeroBlock)))])
		if err != nil {
			return err
		}
		n -= int64(wrote)
	}
	return nil
}
