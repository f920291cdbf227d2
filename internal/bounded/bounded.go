// Package bounded reads files and streams whose size somebody else decides: a file of the build
// context, the output of a program, an answer of a server.
//
// A read up to a bound that ends silently would take half a document for a whole document. Here a
// source that is longer than the bound is an error.
package bounded

import (
	"fmt"
	"io"
)

// ReadAll reads r to the end. The error is "NAME has more than LIMIT bytes" if r is longer than
// limit bytes; name is "it" where the caller adds the name of the source. At most limit+1 bytes are
// read from r.
func ReadAll(r io.Reader, limit int64, name string) ([]byte, error) {
	data, err := io.ReadAll(Reader(r, limit, name))
	if err != nil {
		return nil, err
	}
	return data, nil
}

// Reader returns a reader of at most limit bytes of r. Where r has another byte, the reader returns
// the error of [ReadAll] in place of io.EOF.
func Reader(r io.Reader, limit int64, name string) io.Reader {
	return &reader{in: r, limit: limit, left: limit, name: name}
}

type reader struct {
	in    io.Reader
	limit int64
	left  int64 // bytes up to the limit; -1: it is exceeded
	name  string
}

// Read reads a byte more than is left, which tells the end of the source from the limit.
func (r *reader) Read(p []byte) (int, error) {
	if r.left < 0 {
		return 0, r.exceeded()
	}
	if int64(len(p)) > r.left+1 {
		p = p[:r.left+1]
	}

	n, err := r.in.Read(p)
	r.left -= int64(n)
	if r.left < 0 {
		return n - 1, r.exceeded()
	}
	return n, err
}

func (r *reader) exceeded() error {
	return fmt.Errorf("%s has more than %d bytes", r.name, r.limit)
}
