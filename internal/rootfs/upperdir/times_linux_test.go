package upperdir

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestSetTimes(t *testing.T) {
	root := t.TempDir()
	old, late, epoch := time.Unix(5, 0), time.Unix(2e9, 500), time.Unix(1e9, 0)
	ok(t, os.MkdirAll(root+"/a/b", 0o755), os.WriteFile(root+"/a/b/f", nil, 0o600), os.WriteFile(root+"/old", nil, 0o600),
		os.Symlink("nowhere", root+"/l"), os.Chtimes(root+"/a/b/f", late, late), os.Chtimes(root+"/old", old, old))
	times := func(clamp bool) map[string]time.Time {
		dir, err := os.Open(root)
		ok(t, err, SetTimes(t.Context(), dir, epoch, clamp), dir.Close())
		got := map[string]time.Time{}
		ok(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, _ error) error {
			info, err := d.Info()
			got[path[len(root):]] = info.ModTime()
			return err
		}))
		return got
	}

	for path, at := range times(true) {
		if want := map[bool]time.Time{true: old, false: epoch}[path == "/old"]; !at.Equal(want) {
			t.Errorf("clamped %q: %v, want %v", path, at, want)
		}
	}

	for path, at := range times(false) {
		if !at.Equal(epoch) {
			t.Errorf("set %q: %v", path, at)
		}
	}
}
