package copier

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

// maxWindow bounds what a zstd stream may make us remember, in bytes; zstd --ultra --long=27 asks for it.
const maxWindow = 128 << 20

// compressions are the formats known, by how a file begins.
var compressions = []struct {
	magic string
	open  func(io.Reader) (io.Reader, func(), error)
}{
	{"\x1f\x8b\x08", func(r io.Reader) (io.Reader, func(), error) {
		z, err := gzip.NewReader(r)
		return z, func() {}, err
	}},
	{"BZh", func(r io.Reader) (io.Reader, func(), error) { return bzip2.NewReader(r), func() {}, nil }},
	{"\xfd7zXZ\x00", func(r io.Reader) (io.Reader, func(), error) {
		z, err := xz.NewReader(r)
		return z, func() {}, err
	}},
	{"\x28\xb5\x2f\xfd", func(r io.Reader) (io.Reader, func(), error) {
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}},
}

// decompress returns the plain content of r, and what to call when it has been read. The format shows in how it begins;
// what is in none of them is plain.
func decompress(r io.Reader) (io.Reader, func(), error) {
	b := bufio.NewReaderSize(r, 1<<16)
	head, err := b.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	for _, c := range compressions {
		if bytes.HasPrefix(head, []byte(c.magic)) {
			return c.open(b)
		}
	}
	return b, func() {}, nil
}

// isArchive reports whether r is a tar with at least one entry, plain or compressed.
func isArchive(r io.Reader) bool {
	plain, done, err := decompress(r)
	if err != nil {
		return false
	}
	defer done()
	_, err = tar.NewReader(plain).Next()
	return err == nil
}

// IsTar reports whether what r is about to give is a tar, plain or compressed, rather than a text. It consumes nothing.
// The error is that of reading. r should have a buffer of 64 KiB or more.
func IsTar(r *bufio.Reader) (bool, error) {
	head, err := r.Peek(r.Size())
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}

	for _, c := range compressions {
		if bytes.HasPrefix(head, []byte(c.magic)) {
			return true, nil
		}
	}

	if len(head) < 512 { // less than one header
		return false, nil
	}

	// Beyond the first header the buffer may end anywhere; a header with a wrong checksum is tar.ErrHeader.
	_, err = tar.NewReader(bytes.NewReader(head)).Next()
	return err == nil || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF), nil
}
