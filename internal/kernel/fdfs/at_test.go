package fdfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree makes a directory with files, where a name that ends in a slash is a directory and one with " -> " a link.
func tree(t *testing.T, names ...string) *os.File {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		link, target, isLink := strings.Cut(name, " -> ")
		at := filepath.Join(dir, link)
		var err error
		switch {
		case isLink:
			err = os.Symlink(target, at)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(at, 0o755)
		default:
			err = os.WriteFile(at, []byte(name), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}

	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })

	return f
}

// No name leads out of its directory, and no link is followed.
func TestAtNames(t *testing.T) {
	dir := tree(t, "f", "d/", "l -> f", "ld -> d")
	for _, name := range []string{"", "..", "a/b", "/", "d/../..", "x\x00y"} {
		if f, err := OpenDirAt(dir, name); err == nil {
			f.Close()
			t.Errorf("OpenDirAt accepts %q", name)
		}

		if f, _, err := OpenFileAt(dir, name); err == nil {
			f.Close()
			t.Errorf("OpenFileAt accepts %q", name)
		}

		for op, err := range map[string]error{
			"mkdir": MkdirAt(dir, name, 0o755), "symlink": SymlinkAt("x", dir, name), "unlink": UnlinkAt(dir, name),
			"chown": ChownAt(dir, name, 0, 0), "chmod": ChmodAt(dir, name, 0), "utimes": SetMtimeAt(dir, name, Time{}),
			"link": LinkAt(dir, "f", dir, name), "link from": LinkAt(dir, name, dir, "new"), "mknod": MknodAt(dir, name, Fifo, 0, 0),
		} {
			if err == nil {
				t.Errorf("%s accepts %q", op, name)
			}
		}
	}

	if f, _, err := OpenFileAt(dir, "l"); err == nil {
		f.Close()
		t.Error("OpenFileAt follows a link")
	}

	if f, err := OpenDirAt(dir, "ld"); err == nil {
		f.Close()
		t.Error("OpenDirAt follows a link")
	}

	if f, err := CreateAt(dir, "l"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("CreateAt of what exists: %v, %v", f, err)
	}
}

func TestNextData(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	if _, err := f.WriteAt([]byte("x"), 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(4 << 20); err != nil {
		t.Fatal(err)
	}
	start, end, ok, err := NextData(f, 0, 4<<20)
	if err != nil || !ok || start > 1<<20 || end <= 1<<20 {
		t.Errorf("%d to %d, %v, %v", start, end, ok, err)
	}
	if _, _, ok, err := NextData(f, 3<<20, 4<<20); err != nil || ok && start == 1<<20 {
		t.Errorf("data at the end: %v, %v", ok, err)
	}
}
