package commit

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// failAfter is a writer that fails after n bytes.
type failAfter struct{ n int }

var errFull = errors.New("no space left")

func (f *failAfter) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestFailures(t *testing.T) {
	root := t.TempDir()
	ok(t, os.WriteFile(filepath.Join(root, "f"), make([]byte, 40*chunkSize), 0o600))
	dir, err := os.Open(root)
	ok(t, err)
	t.Cleanup(func() { ok(t, dir.Close()) })
	for _, tc := range []struct {
		name string
		stop bool // cancelled before the start
		w    io.Writer
		o    TarOptions
		want error
	}{
		{"first byte", false, &failAfter{}, TarOptions{}, errFull},
		{"in the middle", false, &failAfter{10 * chunkSize}, TarOptions{}, errFull},
		{"at the end", false, &failAfter{40 * chunkSize}, TarOptions{}, errFull},
		{"tar-split", false, nil, TarOptions{TarSplit: &failAfter{}}, errFull},
		{"cancelled", true, nil, TarOptions{}, context.Canceled},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if tc.stop {
				cancel()
			}
			if res, err := WriteTar(ctx, dir, tc.w, tc.o); !errors.Is(err, tc.want) || res != (Tar{}) {
				t.Errorf("got %+v, %v, want %v", res, err, tc.want)
			}
		})
	}
}

// TestFailedWriterEndsReading has a file of 1 TiB, which takes many minutes to read.
func TestFailedWriterEndsReading(t *testing.T) {
	root := t.TempDir()
	ok(t, os.WriteFile(root+"/f", nil, 0o600))
	if err := os.Truncate(root+"/f", 1<<40); err != nil {
		t.Skip("no sparse file of 1 TiB here: ", err)
	}
	dir, err := os.Open(root)
	ok(t, err)
	t.Cleanup(func() { ok(t, dir.Close()) })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := WriteTar(ctx, dir, &failAfter{chunkSize}, TarOptions{}); !errors.Is(err, errFull) || ctx.Err() != nil {
		t.Errorf("got %v", err)
	}
}
