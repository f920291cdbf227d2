package fdfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCursor: paths resolve inside the root, symbolic links included, and nothing leads above the
// root.
func TestCursor(t *testing.T) {
	dir := tree(t, "a/b/", "a/f", "abs -> /a/b", "up -> ../../../a", "chain -> up/b", "dangling -> no/where", "loop -> loop", "ff -> a/f")
	for _, tc := range []struct {
		path string
		at   string // the path of the cursor after Enter; empty: Enter returns an error
		name string // the name that Resolve returns
		typ  Type   // the type that Resolve returns; Symlink: Resolve returns an error
	}{
		{path: "/", at: ".", name: ".", typ: Directory},
		{path: "", at: ".", name: ".", typ: Directory},
		{path: "a/b", at: "a/b", name: "b", typ: Directory},
		{path: "/a//./b/", at: "a/b", name: ".", typ: Directory},
		{path: "a/b/..", at: "a", name: ".", typ: Directory},
		{path: "../../a", at: "a", name: "a", typ: Directory},
		{path: "abs", at: "a/b", name: "b", typ: Directory},
		{path: "up", at: "a", name: "a", typ: Directory},
		{path: "chain", at: "a/b", name: "b", typ: Directory},
		{path: "chain/../f", name: "f", typ: Regular},
		{path: "ff", name: "f", typ: Regular},
		{path: "a/new", name: "new"},
		{path: "loop", typ: Symlink},
		{path: "dangling", typ: Symlink},
		{path: "a/f/x", typ: Symlink},
	} {
		t.Run(tc.path, func(t *testing.T) {
			c := NewCursor(OnDisk(dir))
			defer c.Close()

			err := c.Enter(tc.path, nil)
			if (err == nil) != (tc.at != "") || err == nil && c.Path() != tc.at {
				t.Errorf("Enter leads to %s, %v, want %q", c.Path(), err, tc.at)
			}
			c.Close()
			name, st, err := c.Resolve(tc.path, nil)
			if tc.typ == Symlink {
				if err == nil {
					t.Errorf("Resolve finds %s", name)
				}
				return
			}
			if err != nil || name != tc.name || st.Type != tc.typ {
				t.Errorf("Resolve finds %s, a %s, %v; want %s, a %s", name, st.Type, err, tc.name, tc.typ)
			}
		})
	}

	t.Run("make", func(t *testing.T) {
		c := NewCursor(OnDisk(dir))
		defer c.Close()
		mkdir := func(d Dir, name string) error { return d.Make(name, Entry{Type: Directory}) }
		if err := c.Enter("/dangling/x", mkdir); err != nil || c.Path() != "no/where/x" {
			t.Errorf("made %s, %v", c.Path(), err)
		}
	})
}

// TestCursorBounds: a path leads through at most 255 symbolic links and 4096 directories.
func TestCursorBounds(t *testing.T) {
	dir := tree(t, "d/", "self -> .")
	c := NewCursor(OnDisk(dir))
	defer c.Close()

	if err := c.Enter(strings.Repeat("self/", maxLinks)+"d", nil); err != nil || c.Path() != "d" {
		t.Errorf("%d links: %s, %v", maxLinks, c.Path(), err)
	}
	c.Close()
	if err := c.Enter(strings.Repeat("self/", maxLinks+1)+"d", nil); !errors.Is(err, unix.ELOOP) {
		t.Errorf("%d links: %v, want ELOOP", maxLinks+1, err)
	}

	for range maxDepth {
		c.stack = append(c.stack, OnDisk(dir))
	}
	if err := c.Enter("d", nil); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("a directory too many: %v, want ENAMETOOLONG", err)
	}
	c.stack = nil
}

// TestCursorStaysInside: a directory that moves out of the root while the cursor stands there leads
// nowhere else, because ".." returns to the directory that the cursor came from.
func TestCursorStaysInside(t *testing.T) {
	dir := tree(t, "root/", "root/a/", "root/a/b/", "root/f", "out/", "out/secret")
	root, err := os.Open(filepath.Join(dir.Name(), "root"))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()

	c := NewCursor(OnDisk(root))
	defer c.Close()
	if err := c.Enter("a/b", nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir.Name(), "root/a/b"), filepath.Join(dir.Name(), "out/b")); err != nil {
		t.Fatal(err)
	}

	if err := c.Enter("../..", nil); err != nil || c.Path() != "." {
		t.Fatalf("the cursor stands at %s, %v", c.Path(), err)
	}
	if _, err := c.Dir().Stat("f"); err != nil {
		t.Error(err)
	}
	if _, err := c.Dir().Stat("secret"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file outside: %v", err)
	}
}
