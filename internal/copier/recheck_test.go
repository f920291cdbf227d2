package copier

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"codeberg.org/rbuild/rbuild/internal/treetest"
)

// TestSelectionChanged: Changed finds every edit of a source that is mounted in place, also an edit
// that was undone.
func TestSelectionChanged(t *testing.T) {
	rewrite := func(name, text string) func(dir string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644) }
	}
	for _, tc := range []struct {
		name, source string
		edit         func(dir string) error
		want         string
	}{
		{"nothing", "/", func(string) error { return nil }, ""},
		{"read", "/", func(dir string) error { _, err := os.ReadFile(dir + "/a/b"); return err }, ""},
		{"content", "/", rewrite("a/b", "other"), "a/b"},
		{"content of the same size", "/", rewrite("a/b", "y"), "a/b"},
		{"undone", "/", func(dir string) error { return errors.Join(rewrite("a/b", "other")(dir), rewrite("a/b", "x")(dir)) }, "a/b"},
		{"same file anew", "/", func(dir string) error {
			return errors.Join(rewrite("new", "x")(dir), os.Rename(dir+"/new", dir+"/a/b"))
		}, "."},
		{"mode", "/", func(dir string) error { return os.Chmod(dir+"/a/b", 0o600) }, "a/b"},
		{"mode of a directory", "/", func(dir string) error { return os.Chmod(dir+"/a", 0o700) }, "a"},
		{"removed", "/", func(dir string) error { return os.Remove(dir + "/a/b") }, "a"},
		{"added", "/", rewrite("a/n", ""), "a"},
		{"added and removed", "/", func(dir string) error { return errors.Join(rewrite("a/n", "")(dir), os.Remove(dir+"/a/n")) }, "a"},
		{"a link", "/", func(dir string) error { return errors.Join(os.Remove(dir+"/l"), os.Symlink("a/b", dir+"/l")) }, "."},
		{"a directory that became a file", "/", func(dir string) error { return errors.Join(os.RemoveAll(dir+"/a"), rewrite("a", "")(dir)) }, "."},
		{"excluded", "/", rewrite("skip/f", "other"), ""},
		{"a file", "a/b", rewrite("a/b", "other"), "a/b"},
		{"beside the file", "a/b", rewrite("f", "other"), ""},
		{"the file removed", "a/b", func(dir string) error { return os.Remove(dir + "/a/b") }, "a/b"},
		{"a part", "a", rewrite("f", "other"), ""},
		{"the part moved", "a", func(dir string) error { return os.Rename(dir+"/a", dir+"/z") }, "a"},
		{"the part replaced", "a", func(dir string) error {
			return errors.Join(os.Rename(dir+"/a", dir+"/z"), os.Symlink("z", dir+"/a"))
		}, "a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := treetest.Build(t, filepath.Join(t.TempDir(), "ctx"), "f a/b 644 x", "f f 644 y", "l l f", "f skip/f 644 z")
			tree, err := OpenContext(dir, []string{"skip"})
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			for _, racy := range []bool{true, false} {
				if !racy {
					waitOld()
				}
				s, err := SelectPath(t.Context(), tree, tc.source)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				if racy { // written just now
					if got, err := s.Changed(t.Context()); err != nil || got != "" {
						t.Errorf("before: %q, %v", got, err)
					}
					continue
				}

				if err := tc.edit(dir); err != nil {
					t.Fatal(err)
				}
				if got, err := s.Changed(t.Context()); err != nil || got != tc.want {
					t.Errorf("%q, %v, want %q", got, err, tc.want)
				}
			}
		})
	}
}

// TestSelectionChangedAtOnce: Changed finds by the content an edit that leaves the times of a file.
func TestSelectionChangedAtOnce(t *testing.T) {
	dir := treetest.Build(t, filepath.Join(t.TempDir(), "ctx"), "f f 644 x")
	tree, err := OpenContext(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()

	s, err := SelectPath(t.Context(), tree, "/")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()

	n := s.items[0].node.kids[0]
	if err := os.WriteFile(dir+"/f", []byte("y"), 0o644); err != nil {
		t.Fatal(err)
	}
	info, err := tree.root.Stat("f")
	if err != nil {
		t.Fatal(err)
	}
	n.stat, n.racy = info, true // as if the clock had not moved
	if got, err := s.Changed(t.Context()); err != nil || got != "f" {
		t.Errorf("%q, %v", got, err)
	}
}
