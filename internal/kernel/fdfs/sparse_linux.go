package fdfs

import "bytes"

// minHole is the shortest run of zeros that becomes a hole, in bytes: a block of usual file
// systems.
const minHole = 4 << 10

// zeroBlock is never written to.
var zeroBlock [64 << 10]byte

// SparseWriter writes a [NewFile] from its start. A Write of 4 KiB or more that is all zeros
// becomes a hole, so the caller writes in large pieces. Finish ends the file. A SparseWriter is for
// one goroutine.
type SparseWriter struct {
	file  NewFile
	size  int64
	zeros int64
}

// NewSparseWriter returns a writer of f, which is empty and stays the caller's.
func NewSparseWriter(f NewFile) *SparseWriter { return &SparseWriter{file: f} }

// Zeros returns the number of bytes that became holes so far.
func (s *SparseWriter) Zeros() int64 { return s.zeros }

// Write appends p to the file.
func (s *SparseWriter) Write(p []byte) (n int, err error) {
	switch {
	case len(p) >= minHole && allZero(p):
		n = len(p)
		s.zeros += int64(n)
	case s.zeros > 0: // the file's own offset is behind
		n, err = s.file.WriteAt(p, s.size)
	default:
		n, err = s.file.Write(p)
	}
	s.size += int64(n)
	return n, err
}

// Finish sets the size of the file, which may end in a hole.
func (s *SparseWriter) Finish() error {
	if s.zeros == 0 {
		return nil
	}
	return s.file.Truncate(s.size)
}

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
