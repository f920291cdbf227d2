package memory

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// whole lists the names in a tree.
func whole(t *testing.T, tree *Tree) string {
	var out bytes.Buffer
	_, err := tree.WriteAll(t.Context(), &out, commit.TarOptions{Merged: true})
	check(t, err)
	var names []string
	for _, line := range list(t, out.Bytes()) {
		names = append(names, strings.Fields(line)[1])
	}
	return strings.Join(names, " ")
}

func TestApply(t *testing.T) {
	for _, tc := range []struct {
		name  string
		layer func(a actor)
		want  string
	}{
		{"adds", func(a actor) { a.file("n", "", 0o600) }, "d/ d/sub/ d/sub/deep d/x n"},
		{"merges", func(a actor) {
			a.do(a.dir.Mkdir("d", 0o755))
			a.in("d").file("n", "", 0o600)
		}, "d/ d/n d/sub/ d/sub/deep d/x"},
		{"whiteout", func(a actor) { a.file(".wh.d", "", 0) }, ""},
		{"whiteout of what it has itself", func(a actor) {
			a.file(".wh.d", "", 0)
			a.do(a.dir.Mkdir("d", 0o755))
		}, "d/"},
		{"opaque", func(a actor) {
			a.do(a.dir.Mkdir("d", 0o755))
			a.in("d").file(".wh..wh..opq", "", 0)
			a.in("d").file("n", "", 0)
		}, "d/ d/n"},
		{"a file for a directory", func(a actor) { a.file("d", "", 0o600) }, "d"},
		{"a directory for a file", func(a actor) {
			a.do(a.dir.Mkdir("d", 0o755))
			a.do(a.in("d").dir.Mkdir("x", 0o755))
			a.in("d/x").file(".wh.nothing", "", 0)
		}, "d/ d/sub/ d/sub/deep d/x/"},
		{"marks of aufs", func(a actor) { a.do(a.dir.Mkdir(".wh..wh.plnk", 0o700)) }, "d/ d/sub/ d/sub/deep d/x"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tree := newTree(t)
			a := actor{t, tree.Root()}
			a.do(a.dir.Mkdir("d", 0o700))
			a.in("d").file("x", "x", 0o600)
			a.do(a.in("d").dir.Mkdir("sub", 0o700))
			a.in("d/sub").file("deep", "", 0o600)
			l := tree.Empty()
			tc.layer(actor{t, l.Root()})
			check(t, tree.Apply(l))
			if diff := cmp.Diff(tc.want, whole(t, tree)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCloneIsApart(t *testing.T) {
	tree := newTree(t)
	a := actor{t, tree.Root()}
	a.file("one", "1", 0o600)
	a.do(a.dir.Link(a.dir, "one", "two"))
	c := tree.Clone()
	b := actor{t, c.Root()}
	b.do(b.dir.Unlink("one"))
	b.file("three", "3", 0o600)
	if got := whole(t, tree) + "; " + whole(t, c); got != "one two; three two" {
		t.Error(got)
	}
}

func TestSetTimes(t *testing.T) {
	tree := newTree(t)
	a := actor{t, tree.Root()}
	a.file("below", "", 0o600)
	a.do(a.dir.SetMtime("below", fdfs.Time{Sec: 500}))
	tree.Begin()
	for name, sec := range map[string]int64{"old": 10, "new": 1000} {
		a.file(name, "", 0o600)
		a.do(a.dir.SetMtime(name, fdfs.Time{Sec: sec, Nsec: 7}))
	}

	tree.SetTimes(time.Unix(100, 0), true)
	for name, want := range map[string]fdfs.Time{"below": {Sec: 500}, "old": {Sec: 10, Nsec: 7}, "new": {Sec: 100}, ".": {Sec: 100}} {
		st, err := a.dir.Stat(name)
		check(t, err)
		if st.Mtime != want {
			t.Errorf("%s: %v, want %v", name, st.Mtime, want)
		}
	}
}

// Errors are those of the kernel: the rules of COPY go by them.
func TestErrors(t *testing.T) {
	tree := newTree(t)
	a := actor{t, tree.Root()}
	a.do(a.dir.Mkdir("d", 0o700))
	a.in("d").file("x", "x", 0o600)
	a.do(a.dir.Symlink("d", "link"))
	other := newTree(t)
	second := func(_ any, err error) error { return err }
	_, _, openLink := a.dir.OpenFile("link")
	for _, tc := range []struct {
		name      string
		got, want error
	}{
		{"missing", second(a.dir.Stat("no")), fs.ErrNotExist},
		{"there already", a.dir.Mkdir("d", 0o700), fs.ErrExist},
		{"a link is no directory", second(a.dir.OpenDir("link")), fdfs.ENOTDIR},
		{"a link is not opened", openLink, fdfs.ELOOP},
		{"up", second(a.dir.OpenDir("..")), fdfs.EINVAL},
		{"two components", second(a.dir.Stat("d/x")), fdfs.EINVAL},
		{"a directory is not unlinked", a.dir.Unlink("d"), fdfs.EISDIR},
		{"only an empty one is removed", a.dir.Rmdir("d"), fdfs.ENOTEMPTY},
		{"no link to a directory", a.dir.Link(a.dir, "d", "e"), fdfs.EISDIR},
		{"nor into another tree", other.Root().Link(a.in("d").dir, "x", "y"), fdfs.EXDEV},
		{"a long name", a.dir.Mkdir(strings.Repeat("n", 256), 0o700), fdfs.ENAMETOOLONG},
		{"a long link", a.dir.Symlink(strings.Repeat("n", 4096), "l"), fdfs.ENAMETOOLONG},
		{"too many attributes", a.dir.Setxattr("user.x", make([]byte, maxXattrs)), errXattrs},
		{"a file is no link", second(a.in("d").dir.Readlink("x")), fdfs.EINVAL},
	} {
		if !errors.Is(tc.got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, tc.got, tc.want)
		}
	}

	f, err := a.dir.Create("small", 3)
	check(t, err)
	if _, err := f.Write([]byte("four")); !errors.Is(err, fdfs.EFBIG) {
		t.Errorf("more than was announced: %v", err)
	}
}

// TestNames: a further name of a file counts as a file does, or a small layer of links could take all memory.
func TestNames(t *testing.T) {
	tree, small := newTree(t), newTree(t)
	a := actor{t, tree.Root()}
	a.file("one", "1", 0o600)
	tree.names = maxFiles - 1
	a.do(a.dir.Link(a.dir, "one", "two"))
	if err := a.dir.Link(a.dir, "one", "three"); !errors.Is(err, errTooMany) {
		t.Errorf("a link too many: %v", err)
	}
	actor{t, small.Root()}.file("one", "1", 0o600)
	if err := tree.Apply(small); !errors.Is(err, errTooMany) {
		t.Errorf("a layer too many: %v", err)
	}
}
