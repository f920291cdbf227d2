package lookpath

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestFind finds programs in absolute directories only, whatever stands before them in PATH.
func TestFind(t *testing.T) {
	dir, second := t.TempDir(), t.TempDir()
	hostile := t.TempDir()
	for file, mode := range map[string]os.FileMode{
		filepath.Join(dir, "pasta"):          0o755,
		filepath.Join(dir, "data"):           0o644,
		filepath.Join(second, "data"):        0o755,
		filepath.Join(second, "slirp4netns"): 0o755,
		filepath.Join(hostile, "pasta"):      0o755,
		filepath.Join(hostile, "git"):        0o755,
	} {
		if err := os.WriteFile(file, nil, mode); err != nil {
			t.Fatal(err)
		}
	}

	for _, name := range []string{filepath.Join(dir, "directory"), filepath.Join(hostile, "bin")} {
		if err := os.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}

	if err := os.WriteFile(filepath.Join(hostile, "bin", "git"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(hostile)
	both := dir + ":" + second
	for _, tc := range []struct {
		name, path string
		programs   []string
		want       string // empty: not found
	}{
		{"first directory", both, []string{"pasta"}, filepath.Join(dir, "pasta")},
		{"later directory", both, []string{"slirp4netns"}, filepath.Join(second, "slirp4netns")},
		{"earlier name", both, []string{"slirp4netns", "pasta"}, filepath.Join(second, "slirp4netns")},
		{"later name", dir, []string{"slirp4netns", "pasta"}, filepath.Join(dir, "pasta")},
		{"not executable", both, []string{"data"}, filepath.Join(second, "data")},
		{"a directory", both, []string{"directory"}, ""},
		{"dot first", ".:" + both, []string{"pasta"}, filepath.Join(dir, "pasta")},
		{"empty element first", ":" + both, []string{"pasta"}, filepath.Join(dir, "pasta")},
		{"empty element last", both + ":", []string{"git"}, ""},
		{"empty element in the middle", dir + "::" + second, []string{"git"}, ""},
		{"relative directories", "bin:./bin:../bin:" + both, []string{"git"}, ""},
		{"nothing but dot", ".", []string{"git"}, ""},
		{"no PATH", "", []string{"git"}, ""},
		{"a path for a name", both, []string{"../pasta"}, ""},
		{"no name", both, []string{""}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Find(tc.path, tc.programs...)
			if got != tc.want || (err == nil) != (tc.want != "") {
				t.Errorf("Find(%q, %q) = %q, %v; want %q", tc.path, tc.programs, got, err, tc.want)
			}
		})
	}

	if _, err := Find(both, "none"); !errors.Is(err, ErrNotFound) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
}

// TestClean keeps the order of the directories that it leaves.
func TestClean(t *testing.T) {
	const path = ":/b:.:bin:/a::./x:../y:/c:"
	if got := Clean(path); got != "/b:/a:/c" {
		t.Errorf("Clean(%q) = %q", path, got)
	}
	if got := Dirs(path); !slices.Equal(got, []string{"/b", "/a", "/c"}) {
		t.Errorf("Dirs(%q) = %q", path, got)
	}
	if got := Clean(".:bin"); got != "" {
		t.Errorf("Clean of relative directories = %q", got)
	}
}
