package copier

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// manyFiles makes n files of size bytes, 20 in each directory.
func manyFiles(tb testing.TB, n, size int) string {
	tb.Helper()
	dir := tb.TempDir()
	data := make([]byte, size)
	for i := range n {
		d := filepath.Join(dir, fmt.Sprintf("d%03d", i/20))
		if i%20 == 0 {
			if err := os.Mkdir(d, 0o755); err != nil {
				tb.Fatal(err)
			}
		}
		copy(data, fmt.Sprint(i))
		if err := os.WriteFile(filepath.Join(d, fmt.Sprintf("file%d", i)), data, 0o644); err != nil {
			tb.Fatal(err)
		}
	}

	return dir
}

// BenchmarkSelect1000 measures most of a fully cached build with 1,000 files. The whole build has
// 80 ms.
func BenchmarkSelect1000(b *testing.B) {
	tree, err := OpenContext(manyFiles(b, 1000, 2000), []string{"node_modules", "**/*.o", "!keep.o", ".git"})
	if err != nil {
		b.Fatal(err)
	}
	defer tree.Close()
	for b.Loop() {
		sel, err := Select(context.Background(), tree, Spec{Sources: []string{"."}, Dest: "/"})
		if err != nil {
			b.Fatal(err)
		}
		sel.Close()
	}
}

// BenchmarkWrite1000 writes 1,000 files of 2,000 bytes.
func BenchmarkWrite1000(b *testing.B) { benchmarkWrite(b, manyFiles(b, 1000, 2000)) }

// BenchmarkWriteLarge writes one file of 256 MiB.
func BenchmarkWriteLarge(b *testing.B) {
	dir := b.TempDir()
	f, err := os.Create(filepath.Join(dir, "large"))
	if err != nil {
		b.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for i := range 256 {
		block[0] = byte(i)
		if _, err := f.Write(block); err != nil {
			b.Fatal(err)
		}
	}

	f.Close()
	b.SetBytes(256 << 20)
	benchmarkWrite(b, dir)
}

func benchmarkWrite(b *testing.B, dir string) {
	tree, err := OpenContext(dir, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer tree.Close()

	sel, err := Select(context.Background(), tree, Spec{Sources: []string{"."}, Dest: "/"})
	if err != nil {
		b.Fatal(err)
	}
	defer sel.Close()
	for b.Loop() {
		b.StopTimer()
		root, err := os.Open(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := sel.Write(context.Background(), fdfs.OnDisk(root)); err != nil {
			b.Fatal(err)
		}
		root.Close()
	}
}

// BenchmarkCopy10000 selects, digests and writes 10,000 files of 200 bytes, as a COPY does.
func BenchmarkCopy10000(b *testing.B) {
	tree, err := OpenContext(manyFiles(b, 10000, 200), []string{".git"})
	if err != nil {
		b.Fatal(err)
	}
	defer tree.Close()
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		root, err := os.Open(dir)
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()

		sel, err := Select(context.Background(), tree, Spec{Sources: []string{"."}, Dest: "/"})
		if err != nil {
			b.Fatal(err)
		}
		if err := sel.Write(context.Background(), fdfs.OnDisk(root)); err != nil {
			b.Fatal(err)
		}

		b.StopTimer()
		root.Close()
		sel.Close()
		os.RemoveAll(dir)
		b.StartTimer()
	}
}
