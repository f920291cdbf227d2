package commit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/sparse"
)

// TestHoles checks that a sparse file and a file with the same bytes without holes give equal tars.
func TestHoles(t *testing.T) {
	const size = 8<<20 + 5
	for name, parts := range map[string]map[int64]string{
		"hole only":   {},
		"hole first":  {size - 1: "x"},
		"hole last":   {0: "x"},
		"holes":       {0: "a", 3 << 20: strings.Repeat("b", 9000), 5<<20 + 1: "c"},
		"ends a page": {size - 5 - 4096: strings.Repeat("d", 4096)},
	} {
		t.Run(name, func(t *testing.T) {
			sparse, whole := t.TempDir(), t.TempDir()
			f, err := os.Create(filepath.Join(sparse, "f"))
			ok(t, err, f.Truncate(size))
			for off, text := range parts {
				_, err = f.WriteAt([]byte(text), off)
				ok(t, err)
			}

			ok(t, f.Close())
			content, err := os.ReadFile(filepath.Join(sparse, "f"))
			ok(t, err, os.WriteFile(filepath.Join(whole, "f"), content, 0o644))
			info, err := os.Stat(filepath.Join(sparse, "f"))
			ok(t, err, os.Chmod(filepath.Join(sparse, "f"), 0o644), os.Chtimes(filepath.Join(whole, "f"), info.ModTime(), info.ModTime()))
			got, _ := write(t, sparse, TarOptions{})
			want, _ := write(t, whole, TarOptions{})
			if digest.FromBytes(got) != digest.FromBytes(want) {
				t.Errorf("with holes the layer is another: %d and %d bytes", len(got), len(want))
			}
		})
	}
}

// TestCompressed reads a file without holes that takes fewer blocks than its size, as on a file
// system that compresses.
func TestCompressed(t *testing.T) {
	const size = minSparse + 5
	path := filepath.Join(t.TempDir(), "f")
	ok(t, os.WriteFile(path, []byte(strings.Repeat("x", size)), 0o644))
	f, err := os.Open(path)
	ok(t, err)
	defer f.Close()

	read, err := (&tarrer{}).readerOf(fdfs.FDOf(f), path, fdfs.Stat{Size: size})
	ok(t, err)
	got := 0
	for buf := make([]byte, 1<<20); got < size; {
		n, err := read(buf)
		ok(t, err)
		if n == 0 {
			break
		}
		got += n
	}

	if got != size {
		t.Errorf("%d bytes of %d", got, size)
	}
}

// TestHolesChanged changes the size of a file while its holes are skipped, which is an error.
func TestHolesChanged(t *testing.T) {
	for _, size := range []int64{1 << 20, 3 << 20} {
		path := filepath.Join(t.TempDir(), "f")
		f, err := os.Create(path)
		ok(t, err, f.Truncate(2<<20))
		defer f.Close()
		h := &holes{fd: fdfs.FDOf(f), path: path, size: 2 << 20}
		_, err = h.read(make([]byte, 1<<20))
		ok(t, err, f.Truncate(size))
		if n, err := h.read(make([]byte, 1<<20)); err == nil {
			t.Errorf("%d bytes of a file that has %d now", n, size)
		}
	}
}

// TestSparseIsReported checks that TarOptions.Sparse is called for a file with large holes only.
func TestSparseIsReported(t *testing.T) {
	dir := t.TempDir()
	ok(t, os.Mkdir(filepath.Join(dir, "log"), 0o755))
	for name, size := range map[string]int64{"log/lastlog": sparse.Large + 4096, "small": sparse.Large / 2} {
		f, err := os.Create(filepath.Join(dir, name))
		ok(t, err)
		_, err = f.WriteAt(make([]byte, 4096), size-4096)
		ok(t, err, f.Close())
	}

	root, err := os.Open(dir)
	ok(t, err)
	defer root.Close()

	var reported []string
	_, err = WriteTar(t.Context(), root, nil, TarOptions{Sparse: func(path string, size, data int64) {
		reported = append(reported, fmt.Sprintf("%s %v %v", path, size-data >= sparse.Large, data > 0))
	}})
	ok(t, err)
	if got := strings.Join(reported, ","); got != "log/lastlog true true" {
		t.Errorf("reported %q", got)
	}
}
