package copier

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
	"codeberg.org/rbuild/rbuild/internal/treetest"
)

// TestMakeDirs: directories are made inside the root, and nothing outside changes.
func TestMakeDirs(t *testing.T) {
	nstest.Need(t)
	outside := treetest.Build(t, t.TempDir(), "d keep 755")
	for _, tc := range []struct {
		name, path string
		root       []string
		want       []string
		made       bool
		err        string
	}{
		{name: "root", path: "/"},
		{name: "new", path: "/a/b/", made: true, want: []string{"a directory 0755 5:6", "a/b directory 0755 5:6"}},
		{name: "below one that exists", path: "/a/b", root: []string{"d a 700"}, made: true, want: []string{"a directory 0700 0:0", "a/b directory 0755 5:6"}},
		{name: "exists", path: "/a", root: []string{"d a 700"}, want: []string{"a directory 0700 0:0"}},
		{name: "dot dot", path: "/../../a/../b", made: true, want: []string{"a directory 0755 5:6", "b directory 0755 5:6"}},
		{name: "absolute link", path: "/l/x", root: []string{"l l " + outside}, made: true, want: append(implied(outside), "l -> "+outside+" 0:0", outside[1:]+"/x directory 0755 5:6")},
		{name: "relative link", path: "/l/x", root: []string{"l l ../../../r"}, made: true, want: []string{"l -> ../../../r 0:0", "r directory 0755 5:6", "r/x directory 0755 5:6"}},
		{name: "file", path: "/f/x", root: []string{"f f 644 x"}, err: "not a directory"},
		{name: "loop", path: "/l", root: []string{"l l l"}, err: "levels"},
		{name: "whiteout", path: "/.wh.a", err: ".wh.a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := treetest.Build(t, t.TempDir(), tc.root...)
			made, err := MakeDirs(fdfs.OnDisk(treetest.Open(t, root)), tc.path, fdfs.Owner{UID: 5, GID: 6})
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want one that says %s", err, tc.err)
				}
				return
			}

			if err != nil || made != tc.made {
				t.Fatalf("made %v, error %v", made, err)
			}
			less := cmp.Transformer("sort", func(s []string) string { return strings.Join(slices.Sorted(slices.Values(s)), "\n") })
			if diff := cmp.Diff(tc.want, treetest.List(t, root), less); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}

	if diff := cmp.Diff([]string{"keep directory 0755 0:0"}, treetest.List(t, outside)); diff != "" {
		t.Errorf("outside (-want +got):\n%s", diff)
	}
}

// implied describes the directories that are made inside a root for the absolute path p.
func implied(p string) (out []string) {
	parts := strings.Split(p[1:], "/")
	for i := range parts {
		out = append(out, strings.Join(parts[:i+1], "/")+" directory 0755 5:6")
	}
	return out
}
