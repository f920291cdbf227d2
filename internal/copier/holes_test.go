package copier

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
)

// sparseFile makes a file of size bytes with data at some places, and returns its content's digest if it is small.
func sparseFile(t *testing.T, path string, size int64, data map[int64]string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	for off, text := range data {
		if _, err := f.WriteAt([]byte(text), off); err != nil {
			t.Fatal(err)
		}
	}

	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
}

func dataOf(t *testing.T, path string) int64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	data, err := fdfs.DataOf(int(f.Fd()), path, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestHolesAreKept: a sparse file has the digest of its content, whether its holes are read or not, and stays sparse
// when it is copied, also when it was changed so shortly before that it is compared while it is copied.
func TestHolesAreKept(t *testing.T) {
	nstest.Need(t)
	const size = 24<<20 + 17
	parts := map[int64]string{0: "start", 5 << 20: strings.Repeat("middle", 1000), size - 3: "end"}
	sparse, whole := t.TempDir(), t.TempDir()
	sparseFile(t, filepath.Join(sparse, "f"), size, parts)
	content, err := os.ReadFile(filepath.Join(sparse, "f"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(whole, "f"), content, 0o644); err != nil {
		t.Fatal(err)
	}
	if dataOf(t, filepath.Join(sparse, "f")) == size {
		t.Skip("the file system of temporary files makes no holes")
	}
	for _, age := range []time.Duration{0, time.Hour} { // racy, and not
		for _, dir := range []string{sparse, whole} {
			name := filepath.Join(dir, "f")
			if age > 0 {
				time.Sleep(2 * racyWindow)
			} else if err := os.Chmod(name, 0o644); err != nil {
				t.Fatal(err)
			}

			tree, err := OpenContext(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			sel, err := Select(t.Context(), tree, Spec{Sources: []string{"f"}, Dest: "/f"})
			if err != nil {
				t.Fatal(err)
			}
			if got, want := sel.items[0].node.sum, sha256.Sum256(content); got != want {
				t.Errorf("%v, %s: the digest is %x, want %x", age, dir, got, want)
			}
			sel.items[0].node.racy = age == 0
			to := t.TempDir()
			root, err := os.Open(to)
			if err != nil {
				t.Fatal(err)
			}
			if err := sel.Write(t.Context(), fdfs.OnDisk(root)); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(to, "f")); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%v, %s: the copy is another file (%v)", age, dir, err)
			}
			if data := dataOf(t, filepath.Join(to, "f")); data > size/4 && (dir == sparse || age == 0) {
				t.Errorf("%v, %s: the copy has %d bytes of data", age, dir, data)
			}
			for _, close := range []func() error{root.Close, sel.Close, tree.Close} {
				if err := close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// TestLargeHolesAreTold: and only those; they take no time to speak of.
func TestLargeHolesAreTold(t *testing.T) {
	dir := t.TempDir()
	sparseFile(t, filepath.Join(dir, "large"), 1<<30+1<<20, map[int64]string{1 << 20: "x"})
	sparseFile(t, filepath.Join(dir, "small"), 1<<29, nil)
	tree, err := OpenContext(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()

	told := make(chan string, 10)
	sel, err := Select(t.Context(), tree, Spec{Sources: []string{"*"}, Dest: "/d/", Sparse: func(source string, size, data int64) {
		told <- fmt.Sprintf("%s %d %v", source, size, data > 0 && data < 1<<20)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer sel.Close()

	close(told)
	var got []string
	for text := range told {
		got = append(got, text)
	}
	if want := "large 1074790400 true"; strings.Join(got, ",") != want {
		t.Errorf("told of %q, want %q", got, want)
	}
}

// oldSparse is a tar of one entry in the old GNU format: size bytes, of which the last 512 are stored.
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

// TestSparseEntries: holes of archives become holes, and too many of them for what is stored are refused.
func TestSparseEntries(t *testing.T) {
	dir := t.TempDir()
	if _, err := ExtractContext(t.Context(), bytes.NewReader(oldSparse("f", 1<<30)), dir); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "f")); err != nil || info.Size() != 1<<30 {
		t.Errorf("%v, %v", info, err)
	}
	if data := dataOf(t, filepath.Join(dir, "f")); data > 1<<20 {
		t.Errorf("the file has %d bytes of data", data)
	}

	_, err := ExtractContext(t.Context(), bytes.NewReader(oldSparse("f", 1<<43)), t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "entry f: the files of the archive have more than") {
		t.Errorf("8 TiB: %v", err)
	}
}

// TestZerosOutOfProportion: of what is read, a hundred times as much may be zeros.
func TestZerosOutOfProportion(t *testing.T) {
	x := newExtractor(context.Background(), nil)
	x.source = &counter{r: strings.NewReader("0123456789")}
	if _, err := io.ReadAll(x.source); err != nil {
		t.Fatal(err)
	}
	x.zeros = freeZeros
	if err := x.skip(1000); err != nil {
		t.Error(err)
	}
	if err := x.skip(1); err == nil || !strings.Contains(err.Error(), "out of 10 bytes") {
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

	y := newExtractor(context.Background(), fdfs.OnDisk(root))
	size := int64(packed.Len())
	if err := y.extract(&packed); err != nil || y.zeros != 8<<20 || y.source.n.Load() != size {
		t.Errorf("%d zeros out of %d bytes, want %d out of %d (%v)", y.zeros, y.source.n.Load(), 8<<20, size, err)
	}
}
