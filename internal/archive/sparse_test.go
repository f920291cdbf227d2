package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/treetest"
)

// oldSparse returns a tar of one file in the old GNU format: size bytes, of which the last 512 are
// stored.
func oldSparse(name string, size int64) []byte {
	h := make([]byte, 512)
	copy(h, name)
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:], "00000001000\x0000000000000\x00")
	h[156] = 'S'
	copy(h[257:], "ustar  \x00")
	number := func(at int, n int64) { // base 256
		h[at] = 0x80
		for i := range 11 {
			h[at+11-i] = byte(n >> (8 * i))
		}
	}

	number(386, size-512)
	number(398, 512)
	number(483, size)
	copy(h[148:], "        ")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	out := append(h, bytes.Repeat([]byte("x"), 512)...)

	return append(out, make([]byte, 1024)...)
}

// TestSparseEntries: holes of an archive become holes of the file, and too large a file is refused.
func TestSparseEntries(t *testing.T) {
	dir := t.TempDir()
	if _, err := ExtractContext(t.Context(), bytes.NewReader(oldSparse("f", 1<<30)), dir); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "f")); err != nil || info.Size() != 1<<30 {
		t.Errorf("%v, %v", info, err)
	}
	if data := treetest.DataSize(t, filepath.Join(dir, "f")); data > 1<<20 {
		t.Errorf("the file has %d bytes of data", data)
	}

	_, err := ExtractContext(t.Context(), bytes.NewReader(oldSparse("f", 1<<43)), t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "entry f: the files of the archive have more than") {
		t.Errorf("8 TiB: %v", err)
	}
}

// TestZerosOutOfProportion: an archive may unpack to 32 GiB of zeros, and 100 bytes of zeros for
// each byte that is stored.
func TestZerosOutOfProportion(t *testing.T) {
	x := newExtractor(context.Background(), nil, rules{})
	x.source = &counter{r: strings.NewReader("0123456789")}
	if _, err := io.ReadAll(x.source); err != nil {
		t.Fatal(err)
	}
	if err := x.countZeros(freeZeros + 1000); err != nil {
		t.Error(err)
	}
	if err := x.countZeros(freeZeros + 1001); err == nil || !strings.Contains(err.Error(), "out of 10 bytes") {
		t.Errorf("got %v", err)
	}

	// The bytes are those of the compressed archive.
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: "f", Size: 8 << 20, Typeflag: tar.TypeReg, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 8<<20)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []io.Closer{w, z} {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}

	root, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()

	y := newExtractor(context.Background(), fdfs.OnDisk(root), rules{})
	size := int64(packed.Len())
	if err := y.extract(&packed); err != nil || y.zeros != 8<<20 || y.source.n.Load() != size {
		t.Errorf("%d zeros out of %d bytes, want %d out of %d (%v)", y.zeros, y.source.n.Load(), 8<<20, size, err)
	}
}
