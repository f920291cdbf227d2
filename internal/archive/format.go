package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxWindow bounds the memory that a zstd stream can demand, in bytes. zstd --ultra --long=27 needs
// as much.
const maxWindow = 128 << 20

// compressions are the supported formats. A file is of a format if it begins with its magic.
var compressions = []struct {
	magic string
	open  func(io.Reader) (io.ReadCloser, error)
}{
	{"\x1f\x8b\x08", func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }},
	{"BZh", func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(bzip2.NewReader(r)), nil }},
	{"\xfd7zXZ\x00", func(r io.Reader) (io.ReadCloser, error) {
		x, err := xz.NewReader(r)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(x), nil
	}},
	{"\x28\xb5\x2f\xfd", func(r io.Reader) (io.ReadCloser, error) {
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}},
}

// isCompressed reports whether a file that begins with head is of a supported compression.
func isCompressed(head []byte) bool {
	for _, c := range compressions {
		if bytes.HasPrefix(head, []byte(c.magic)) {
			return true
		}
	}
	return false
}

// decompress returns the plain content of r. A file of no supported compression is plain. The
// caller closes the result, which leaves r open.
func decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 1<<16)
	head, err := b.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	for _, c := range compressions {
		if bytes.HasPrefix(head, []byte(c.magic)) {
			return c.open(b)
		}
	}

	return io.NopCloser(b), nil
}

// IsArchive reports whether r is a tar with at least one entry, plain or compressed. It reads a
// part of r.
func IsArchive(r io.Reader) bool {
	plain, err := decompress(r)
	if err != nil {
		return false
	}
	defer plain.Close() // only read
	_, err = tar.NewReader(plain).Next()
	return err == nil
}

// IsTar reports whether r begins with a tar, plain or compressed, rather than with text such as a
// Dockerfile. It consumes nothing of r, whose buffer should have 64 KiB or more. The error is that
// of reading.
func IsTar(r *bufio.Reader) (bool, error) {
	head, err := r.Peek(r.Size())
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	if isCompressed(head) {
		return true, nil
	}
	if len(head) < 512 { // shorter than a header
		return false, nil
	}

	// After the first header, the buffer may end anywhere. A header with a wrong checksum is
	// tar.ErrHeader.
	_, err = tar.NewReader(bytes.NewReader(head)).Next()
	return err == nil || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF), nil
}
