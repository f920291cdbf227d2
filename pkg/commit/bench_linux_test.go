package commit

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func BenchmarkWrite(b *testing.B) {
	for _, bc := range []struct {
		name string
		fill func(b *testing.B, dir string)
	}{
		{"one byte", func(b *testing.B, dir string) { put(b, filepath.Join(dir, "f"), []byte("x")) }},
		{"10,000 small files", func(b *testing.B, dir string) {
			for i := range 10_000 {
				sub := filepath.Join(dir, fmt.Sprintf("d%03d", i/100))
				if i%100 == 0 {
					if err := os.Mkdir(sub, 0o755); err != nil {
						b.Fatal(err)
					}
				}
				put(b, filepath.Join(sub, fmt.Sprintf("f%05d", i)), bytes.Repeat([]byte("hello\n"), 100+i%300))
			}
		}},
		{"1 GiB", func(b *testing.B, dir string) {
			f, err := os.Create(filepath.Join(dir, "f"))
			if err != nil {
				b.Fatal(err)
			}
			chunk := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
			for range 1 << 10 {
				if _, err := f.Write(chunk); err != nil {
					b.Fatal(err)
				}
			}
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
		}},
	} {
		b.Run(bc.name, func(b *testing.B) {
			root := b.TempDir()
			bc.fill(b, root)
			dir, err := os.Open(root)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { ok(b, dir.Close()) })
			for b.Loop() {
				res, err := WriteTar(b.Context(), dir, nil, TarOptions{TarSplit: io.Discard})
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(res.Size)
			}
		})
	}
}

func put(tb testing.TB, path string, data []byte) {
	tb.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		tb.Fatal(err)
	}
}
