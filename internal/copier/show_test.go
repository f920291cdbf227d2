package copier

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
	"codeberg.org/rbuild/rbuild/internal/treetest"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

// listing returns the type and the path of every file below dir.
func listing(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if rel, _ := filepath.Rel(dir, name); rel != "." {
			out = append(out, d.Type().String()[:1]+" "+rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	return out
}

// TestHide: the overlay of Hide and the copy of Materialize show the selected files and no others.
func TestHide(t *testing.T) {
	nstest.Need(t)
	for _, tc := range []struct {
		name, source string
		files        []string
		ignore       []string
		want         []string // below the source
		upper        []string // what is made
		copied       bool     // the tree cannot be shown as it is
	}{
		{name: "all", source: "/", files: []string{"f a/b 644 x", "f c 600 y"}, want: []string{"d a", "- a/b", "- c"}},
		{
			name: "a file and a tree ignored", source: ".", files: []string{"f a/b 644 x", "f c 600 y", "f d/e/f 644 z"},
			ignore: []string{"c", "d"}, want: []string{"d a", "- a/b"}, upper: []string{"D c", "D d"},
		},
		{
			name: "below", source: "/", files: []string{"f a/b 644 x", "f a/c 600 y", "f a/d/e 644 z"},
			ignore: []string{"a", "!a/d"}, want: []string{"d a", "d a/d", "- a/d/e"}, upper: []string{"d a", "D a/b", "D a/c"},
		},
		{
			name: "of a part", source: "p/q", files: []string{"f p/q/x 644 x", "f p/q/y 644 y", "f p/z 644 z"},
			ignore: []string{"**/y"}, want: []string{"- x"}, upper: []string{"d p", "d p/q", "D p/q/y"},
		},
		{name: "a link on the way", source: "l/b", files: []string{"f a/b/c 644 x", "l l a"}, want: []string{"- c"}},
		{name: "setuid", source: "/", files: []string{"f a 4755 x", "d d 2755"}, want: []string{"- a", "d d"}, copied: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			base := t.TempDir()
			dir := treetest.Build(t, filepath.Join(base, "ctx"), tc.files...)
			tree, err := OpenContext(dir, tc.ignore)
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()

			s, err := SelectPath(t.Context(), tree, tc.source)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range []string{"upper", "work", "copy"} {
				if err := os.Mkdir(filepath.Join(base, d), 0o755); err != nil {
					t.Fatal(err)
				}
			}

			ok, err := s.Hide(treetest.Open(t, filepath.Join(base, "upper")))
			if err != nil || ok == tc.copied {
				t.Fatalf("Hide: %v, %v", ok, err)
			}
			copyDir := treetest.Open(t, filepath.Join(base, "copy"))
			if err := s.Materialize(t.Context(), fdfs.OnDisk(copyDir)); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, listing(t, filepath.Join(base, "copy", ShownName))); d != "" {
				t.Errorf("copy: %s", d)
			}
			if !ok {
				return
			}

			if d := cmp.Diff(tc.upper, listing(t, filepath.Join(base, "upper"))); d != "" {
				t.Errorf("upper: %s", d)
			}
			root, err := overlay.Open(overlay.Mount{Lowers: []string{dir}, Upper: filepath.Join(base, "upper"), Work: filepath.Join(base, "work")})
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()

			merged := filepath.Join("/proc/self/fd", descriptor(root), s.Path())
			if d := cmp.Diff(tc.want, listing(t, merged+"/.")); d != "" {
				t.Errorf("overlay: %s", d)
			}
		})
	}
}

// TestSelectPath: the path is no pattern, links resolve in the tree, and the digest covers the mode
// of the source.
func TestSelectPath(t *testing.T) {
	dir := treetest.Build(t, t.TempDir(), "f a*b/x 644 x", "f acb/y 644 y", "d m 755", "l out ../../../../etc", "l abs /a*b")
	tree, err := OpenContext(dir, []string{"m/no"})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()

	for source, want := range map[string]string{"a*b": "a*b", "/abs/x": "a*b/x", "..": ".", "./m/": "m"} {
		s, err := SelectPath(t.Context(), tree, source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
		} else if s.Path() != want {
			t.Errorf("%s is %s, want %s", source, s.Path(), want)
		}
	}

	for _, source := range []string{"a?b", "out", "out/passwd", "m/no", "none"} {
		if _, err := SelectPath(t.Context(), tree, source); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), source) {
			t.Errorf("%s: %v", source, err)
		}
	}

	digest := func() string {
		s, err := SelectPath(t.Context(), tree, "m")
		if err != nil {
			t.Fatal(err)
		}
		return s.Digest().String()
	}

	before := digest()
	if err := os.Chmod(filepath.Join(dir, "m"), 0o700); err != nil { //nolint:gosec // the mode is what is tested
		t.Fatal(err)
	}
	if digest() == before {
		t.Error("the mode of the source is not in its digest")
	}
}

func descriptor(f *os.File) string { return strconv.Itoa(int(f.Fd())) }
