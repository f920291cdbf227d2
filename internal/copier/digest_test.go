package copier

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
	"codeberg.org/rbuild/rbuild/internal/treetest"
)

var digestContext = []string{
	"f t/a 644 A", "f t/b 644 B", "d t/empty 755", "d t/sub 755", "f t/sub/c 644 C", "l t/link a", "p t/fifo 600",
	"f t/h1 644 H", "h t/h2 t/h1", "f t/h3 644 H", "f t/.ignored 644 x",
}

func digestOf(t *testing.T, tree *Tree, spec Spec) digest.Digest {
	t.Helper()
	sel, err := Select(context.Background(), tree, spec)
	if err != nil {
		t.Fatal(err)
	}
	defer sel.Close()
	return sel.Digest()
}

// TestDigest: a change of the sources changes the digest if the image would show the change, and
// only then.
func TestDigest(t *testing.T) {
	nstest.Need(t)
	at := func(name string) string { return filepath.Join("t", name) }
	for _, tc := range []struct {
		name   string
		change func(dir string, s *Spec) error
		same   bool
		stage  bool // the tree is a stage: owners count
	}{
		{name: "nothing", same: true, change: func(string, *Spec) error { return nil }},
		{name: "times", same: true, change: func(d string, _ *Spec) error {
			return os.Chtimes(filepath.Join(d, at("a")), time.Unix(1, 0), time.Unix(1, 0))
		}},
		{name: "time of a directory", same: true, change: func(d string, _ *Spec) error {
			return os.Chtimes(filepath.Join(d, at("sub")), time.Unix(1, 0), time.Unix(1, 0))
		}},
		{name: "mode of the source directory", same: true, change: func(d string, _ *Spec) error {
			return os.Chmod(filepath.Join(d, "t"), 0o700)
		}},
		{name: "owner in a context", same: true, change: func(d string, _ *Spec) error {
			return os.Chown(filepath.Join(d, at("a")), 5, 5)
		}},
		{name: "ignored file", same: true, change: func(d string, _ *Spec) error {
			return os.WriteFile(filepath.Join(d, at(".ignored")), []byte("y"), 0o644)
		}},
		{name: "owner in a stage", stage: true, change: func(d string, _ *Spec) error {
			return os.Chown(filepath.Join(d, at("a")), 5, 0)
		}},
		{name: "group of a link in a stage", stage: true, change: func(d string, _ *Spec) error {
			return os.Lchown(filepath.Join(d, at("link")), 0, 5)
		}},
		{name: "setuid in a stage", stage: true, change: func(d string, _ *Spec) error {
			return os.Chmod(filepath.Join(d, at("a")), 0o644|os.ModeSetuid)
		}},
		{name: "content", change: func(d string, _ *Spec) error {
			return os.WriteFile(filepath.Join(d, at("sub/c")), []byte("D"), 0o644)
		}},
		{name: "mode", change: func(d string, _ *Spec) error { return os.Chmod(filepath.Join(d, at("a")), 0o640) }},
		{name: "mode of a directory", change: func(d string, _ *Spec) error { return os.Chmod(filepath.Join(d, at("empty")), 0o700) }},
		{name: "mode of a fifo", change: func(d string, _ *Spec) error { return os.Chmod(filepath.Join(d, at("fifo")), 0o640) }},
		{name: "name", change: func(d string, _ *Spec) error {
			return os.Rename(filepath.Join(d, at("a")), filepath.Join(d, at("aa")))
		}},
		{name: "place", change: func(d string, _ *Spec) error {
			return os.Rename(filepath.Join(d, at("a")), filepath.Join(d, at("sub/a")))
		}},
		{name: "swapped", change: func(d string, _ *Spec) error {
			a, b, c := filepath.Join(d, at("a")), filepath.Join(d, at("b")), filepath.Join(d, at("c"))
			return errors.Join(os.Rename(a, c), os.Rename(b, a), os.Rename(c, b))
		}},
		{name: "new empty directory", change: func(d string, _ *Spec) error { return os.Mkdir(filepath.Join(d, at("empty/e")), 0o755) }},
		{name: "removed", change: func(d string, _ *Spec) error { return os.Remove(filepath.Join(d, at("b"))) }},
		{name: "link target", change: func(d string, _ *Spec) error {
			return errors.Join(os.Remove(filepath.Join(d, at("link"))), os.Symlink("b", filepath.Join(d, at("link"))))
		}},
		{name: "link becomes file", change: func(d string, _ *Spec) error {
			return errors.Join(os.Remove(filepath.Join(d, at("link"))), os.WriteFile(filepath.Join(d, at("link")), []byte("a"), 0o777))
		}},
		{name: "hard link becomes copy", change: func(d string, _ *Spec) error {
			return errors.Join(os.Remove(filepath.Join(d, at("h2"))), os.WriteFile(filepath.Join(d, at("h2")), []byte("H"), 0o644))
		}},
		{name: "other hard link", change: func(d string, _ *Spec) error {
			return errors.Join(os.Remove(filepath.Join(d, at("h3"))), os.Link(filepath.Join(d, at("h1")), filepath.Join(d, at("h3"))))
		}},
		{name: "capability", change: func(d string, _ *Spec) error {
			f, err := os.Open(filepath.Join(d, at("a")))
			if err != nil {
				return err
			}
			defer f.Close()
			return fdfs.Setxattr(f, xattrCaps, []byte("\x01\x00\x00\x02\x00\x04\x00\x00"+strings.Repeat("\x00", 12)))
		}},
		{name: "destination", change: func(_ string, s *Spec) error { s.Dest = "/y/"; return nil }},
		{name: "chown", change: func(_ string, s *Spec) error { s.Chown = &fdfs.Owner{UID: 1, GID: 2}; return nil }},
		{name: "chmod", change: func(_ string, s *Spec) error { s.Chmod = "700"; return nil }},
		{name: "exclude", change: func(_ string, s *Spec) error { s.Exclude = []string{"b"}; return nil }},
		{name: "here-document", change: func(_ string, s *Spec) error { s.Inline = []File{{"b", []byte("B")}}; return nil }},
		{name: "source", change: func(_ string, s *Spec) error { s.Sources = append(s.Sources, "t/a"); return nil }},
		{name: "parents", change: func(_ string, s *Spec) error { s.Parents = true; return nil }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := treetest.Build(t, t.TempDir(), digestContext...)
			tree, err := OpenContext(dir, []string{"**/.ignored"})
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()

			if tc.stage {
				tree = OpenRoot(tree.root)
			}
			spec := Spec{Sources: []string{"t"}, Dest: "/x/"}
			before := digestOf(t, tree, spec)
			if err := tc.change(dir, &spec); err != nil {
				t.Fatal(err)
			}
			if after := digestOf(t, tree, spec); (before == after) != tc.same {
				t.Errorf("digest is the same: %v, want %v", before == after, tc.same)
			}
		})
	}
}

// TestDigestOfParents: a directory that a pattern selects has another digest than a directory that
// only leads to a selected file, because its mode and time are written too.
func TestDigestOfParents(t *testing.T) {
	tree, err := OpenContext(treetest.Build(t, t.TempDir(), "f a/b/f 644 F"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	a := digestOf(t, tree, Spec{Sources: []string{"a/b"}, Dest: "/", Parents: true})
	b := digestOf(t, tree, Spec{Sources: []string{"a/b/*"}, Dest: "/", Parents: true})
	if a == b {
		t.Error("one digest")
	}
}

// TestDigestElsewhere: the digest depends neither on the path of the context nor on the order in
// which its files were made.
func TestDigestElsewhere(t *testing.T) {
	nstest.Need(t)
	digests := map[digest.Digest]bool{}
	reversed := append([]string{}, digestContext...)
	for i := range 6 {
		reversed[i], reversed[5-i] = digestContext[5-i], digestContext[i]
	}
	for _, lines := range [][]string{digestContext, digestContext, reversed} {
		tree, err := OpenContext(treetest.Build(t, t.TempDir(), lines...), nil)
		if err != nil {
			t.Fatal(err)
		}
		digests[digestOf(t, tree, Spec{Sources: []string{"t"}, Dest: "/"})] = true
		tree.Close()
	}

	if len(digests) != 1 {
		t.Errorf("%d digests of one tree: %v", len(digests), digests)
	}
}

// TestDigestOfResult: files that were written and selected again have the same digest.
func TestDigestOfResult(t *testing.T) {
	nstest.Need(t)
	dir := treetest.Build(t, t.TempDir(), digestContext...)
	tree, err := OpenContext(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()

	root := t.TempDir()
	spec := Spec{Sources: []string{"."}, Dest: "/"}
	want := digestOf(t, tree, spec)
	if err := doTree(t, tree, root, spec); err != nil {
		t.Fatal(err)
	}
	if got := digestOf(t, OpenRoot(fdfs.OnDisk(treetest.Open(t, root))), spec); got != want {
		t.Errorf("%s of the result, %s of the source", got, want)
	}
}
