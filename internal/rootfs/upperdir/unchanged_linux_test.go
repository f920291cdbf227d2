package upperdir

import (
	"os"
	"testing"
	"time"
)

func TestUnchanged(t *testing.T) {
	upper, lower := t.TempDir(), t.TempDir()
	old := time.Unix(1e9, 123)
	put := func(root, name string, size int, at time.Time) {
		ok(t, os.WriteFile(root+name, make([]byte, size), 0o600), os.Chtimes(root+name, at, at))
	}
	ok(t, os.MkdirAll(upper+"/a/b", 0o755), os.MkdirAll(lower+"/a/b", 0o700), os.Mkdir(upper+"/new", 0o755), os.Mkdir(upper+"/was-file", 0o755))
	put(lower, "/a/b/same", 100, old)
	put(upper, "/a/b/same", 100, old)
	ok(t, os.Chmod(upper+"/a/b/same", 0o644))
	put(lower, "/linked", 1000, old)
	put(upper, "/linked", 1000, old)
	ok(t, os.Link(lower+"/linked", lower+"/linked2"), os.Link(upper+"/linked", upper+"/linked2"))
	put(lower, "/size", 100, old)
	put(upper, "/size", 101, old)
	put(lower, "/time", 100, old)
	put(upper, "/time", 100, old.Add(1))
	put(upper, "/new/file", 100, old)
	put(lower, "/was-file", 100, old)
	ok(t, os.Symlink("size", lower+"/link"))
	put(upper, "/link", 100, old)
	put(lower, "/only-below", 100, old)
	dir, err := os.Open(upper)
	ok(t, err)
	defer dir.Close()

	below, err := os.Open(lower)
	ok(t, err)
	defer below.Close()
	for range 2 { // the descriptors can be used again
		if got, err := Unchanged(t.Context(), dir, below); err != nil || got != 1100 {
			t.Errorf("%d bytes, %v, want 1100", got, err)
		}
	}
}
