package copier

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// TestLinkUp: files that are one inode are tied together within one source directory, and among
// consecutive single files.
func TestLinkUp(t *testing.T) {
	file := func(name string, ino uint64, content byte) *node {
		return &node{name: name, sum: [32]byte{content}, stat: fdfs.Stat{Type: fdfs.Regular, Ino: ino, Nlink: 2}}
	}
	dir := func(kids ...*node) *node { return &node{stat: fdfs.Stat{Type: fdfs.Directory}, kids: kids} }
	for _, tc := range []struct {
		name  string
		nodes []*node
		want  string // "LATER=FIRST" of each link
	}{
		{"one directory", []*node{dir(file("a", 1, 1), dir(file("b", 1, 1)), file("c", 2, 1))}, "b=a"},
		{"three names", []*node{dir(file("a", 1, 1), file("b", 1, 1), file("c", 1, 1))}, "b=a c=a"},
		{"two directories", []*node{dir(file("a", 1, 1)), dir(file("b", 1, 1))}, ""},
		{"single files", []*node{file("a", 1, 1), file("b", 1, 1)}, "b=a"},
		{"single files around a directory", []*node{file("a", 1, 1), dir(), file("b", 1, 1)}, ""},
		{"changed meanwhile", []*node{dir(file("a", 1, 1), file("b", 1, 2))}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var items []*item
			for _, n := range tc.nodes {
				items = append(items, &item{node: n})
			}
			linkUp(items)

			var got []string
			var visit func(n *node)
			visit = func(n *node) {
				if n.link != nil {
					got = append(got, n.name+"="+n.link.name)
					if !n.link.shared {
						t.Errorf("%s does not know that %s is a link to it", n.link.name, n.name)
					}
				}
				for _, kid := range n.kids {
					visit(kid)
				}
			}
			for _, n := range tc.nodes {
				visit(n)
			}
			if diff := cmp.Diff(tc.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestRules: owners and modes of a context, of a stage and of files without a tree.
func TestRules(t *testing.T) {
	context, stage := &Tree{context: true}, &Tree{}
	setuid := fdfs.Stat{Type: fdfs.Regular, Mode: 0o6755, UID: 5, GID: 6}
	setgid := fdfs.Stat{Type: fdfs.Directory, Mode: 0o2755, UID: 5, GID: 6}
	for _, tc := range []struct {
		name  string
		tree  *Tree
		spec  Spec
		stat  fdfs.Stat
		owner fdfs.Owner
		mode  uint32
	}{
		{"file of a context", context, Spec{}, setuid, fdfs.Owner{}, 0o755},
		{"directory of a context", context, Spec{}, setgid, fdfs.Owner{}, 0o2755},
		{"file of a stage", stage, Spec{}, setuid, fdfs.Owner{UID: 5, GID: 6}, 0o6755},
		{"file without a tree", nil, Spec{}, setuid, fdfs.Owner{}, 0o6755},
		{"--chown", stage, Spec{Chown: &fdfs.Owner{UID: 8, GID: 9}}, setuid, fdfs.Owner{UID: 8, GID: 9}, 0o6755},
		{"--chmod", context, Spec{Chmod: "u+s"}, setuid, fdfs.Owner{}, 0o4755},
		{"link", stage, Spec{Chmod: "600"}, fdfs.Stat{Type: fdfs.Symlink, UID: 5}, fdfs.Owner{UID: 5}, 0o777},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := newRules(tc.tree, tc.spec)
			if err != nil {
				t.Fatal(err)
			}
			n := &node{stat: tc.stat}
			if got := r.owner(n); got != tc.owner {
				t.Errorf("owner %v, want %v", got, tc.owner)
			}
			if got := r.mode(n); got != tc.mode {
				t.Errorf("mode %o, want %o", got, tc.mode)
			}
		})
	}
}

// TestCleanSource: sources are relative to the root of the tree, and stay inside.
func TestCleanSource(t *testing.T) {
	for source, want := range map[string]string{
		"": ".", "/": ".", ".": ".", "a": "a", "/a/b/": "a/b", "../../a": "a", "a/../..": ".", "./a/./b": "a/b",
	} {
		if got := cleanSource(source); got != want {
			t.Errorf("%q is %q, want %q", source, got, want)
		}
	}
}

// TestIsPattern: a wildcard makes a source a pattern, unless a backslash escapes it.
func TestIsPattern(t *testing.T) {
	for source, want := range map[string]bool{
		"a/b": false, "a/*": true, "a?": true, "[ab]/c": true, `a\*`: false, `a\\*`: true, `\`: false, "a]": false,
	} {
		if got := isPattern(source); got != want {
			t.Errorf("%q: %v, want %v", source, got, want)
		}
	}
}

// TestCleanSpec: the destination is absolute, and several sources need a directory.
func TestCleanSpec(t *testing.T) {
	for _, tc := range []struct {
		name string
		spec Spec
		dest string
		err  string
	}{
		{name: "file", spec: Spec{Sources: []string{"a"}, Dest: "/x/./y"}, dest: "/x/y"},
		{name: "directory", spec: Spec{Sources: []string{"a", "b"}, Dest: "/x//"}, dest: "/x/"},
		{name: "parent", spec: Spec{Sources: []string{"a", "b"}, Dest: "/x/.."}, dest: "/"},
		{name: "dot", spec: Spec{Sources: []string{"a"}, Dest: "/x/."}, dest: "/x/"},
		{name: "no source", spec: Spec{Dest: "/"}, err: "no source"},
		{name: "relative", spec: Spec{Sources: []string{"a"}, Dest: "x"}, err: `"x" is not absolute`},
		{name: "zero byte", spec: Spec{Sources: []string{"a"}, Dest: "/x\x00"}, err: "zero byte"},
		{name: "several", spec: Spec{Sources: []string{"a"}, Inline: []File{{}}, Dest: "/x"}, err: "/x of several sources"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tc.spec.clean()
			if tc.err == "" && (err != nil || got.Dest != tc.dest) {
				t.Errorf("%q, %v, want %q", got.Dest, err, tc.dest)
			}
			if tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error %v, want one that says %q", err, tc.err)
			}
		})
	}
}
