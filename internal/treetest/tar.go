package treetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Entry is an entry of a tar. The time is 1 second after 1970.
type Entry struct {
	Name     string
	Type     byte  // as in package archive/tar; 0 is a regular file
	Mode     int64 // 0 is 0644
	Data     string
	Link     string // target of a link
	UID, GID int
	PAX      map[string]string // records such as "SCHILY.xattr.user.kind": "blue"
}

// Tar returns a tar of the entries.
func Tar(tb testing.TB, entries ...Entry) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{
			Name:       e.Name,
			Typeflag:   e.Type,
			Mode:       e.Mode,
			Size:       int64(len(e.Data)),
			Linkname:   e.Link,
			Uid:        e.UID,
			Gid:        e.GID,
			ModTime:    time.Unix(1, 0),
			PAXRecords: e.PAX,
		}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(h); err != nil {
			tb.Fatal(err)
		}
		if _, err := io.WriteString(w, e.Data); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}

	return b.Bytes()
}

// Mixed returns entries of every type that an archive may have, with names that are written in
// several ways.
func Mixed() []Entry {
	return []Entry{
		{Name: ".", Type: tar.TypeDir, Mode: 0o700},
		{Name: "./a", Mode: 0o4750, Data: "A"},
		{Name: "./h", Type: tar.TypeLink, Link: "./a"},
		{Name: "./l", Type: tar.TypeSymlink, Link: "a"},
		{Name: "./p", Type: tar.TypeFifo, Mode: 0o640},
		{Name: "./dev", Type: tar.TypeChar},
		{Name: "./sub", Type: tar.TypeDir, Mode: 0o555},
		{Name: "./sub/b", Data: "B", UID: 77, GID: 88},
		{Name: "/abs/implied", Data: "I", UID: 5},
	}
}

// Compressors returns functions that compress data, by format: "gz", "xz" and "zst", and "tar" for
// none. bzip2 has no compressor in Go.
func Compressors(tb testing.TB) map[string]func(data []byte) []byte {
	return map[string]func(data []byte) []byte{
		"tar": func(data []byte) []byte { return data },
		"gz": func(data []byte) []byte {
			return compress(tb, data, func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })
		},
		"xz": func(data []byte) []byte {
			return compress(tb, data, func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) })
		},
		"zst": func(data []byte) []byte {
			return compress(tb, data, func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) })
		},
	}
}

func compress(tb testing.TB, data []byte, open func(io.Writer) (io.WriteCloser, error)) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := open(&b)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}

	return b.Bytes()
}
