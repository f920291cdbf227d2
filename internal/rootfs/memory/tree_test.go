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

// names returns the paths of all files of a tree, in one line.
func names(t *testing.T, tree *Tree) string {
	var out bytes.Buffer
	_, err := tree.WriteAll(t.Context(), &out, commit.TarOptions{Merged: true})
	check(t, err)
	var paths []string
	for _, line := range list(t, out.Bytes()) {
		paths = append(paths, strings.Fields(line)[1])
	}
	return strings.Join(paths, " ")
}

// TestApply applies a layer, with its whiteouts, to a tree of three files.
func TestApply(t *testing.T) {
	for _, tc := range []struct {
		name  string
		layer func(a actor)
		want  string
	}{
		{"adds", func(a actor) { a.file("n", "", 0o600) }, "d/ d/sub/ d/sub/deep d/x n"},
		{"merges", func(a actor) {
			a.mkdir("d", 0o755)
			a.in("d").file("n", "", 0o600)
		}, "d/ d/n d/sub/ d/sub/deep d/x"},
		{"whiteout", func(a actor) { a.file(".wh.d", "", 0) }, ""},
		{"whiteout of a name that the layer has", func(a actor) {
			a.file(".wh.d", "", 0)
			a.mkdir("d", 0o755)
		}, "d/"},
		{"opaque", func(a actor) {
			a.mkdir("d", 0o755)
			a.in("d").file(".wh..wh..opq", "", 0)
			a.in("d").file("n", "", 0)
		}, "d/ d/n"},
		{"a file for a directory", func(a actor) { a.file("d", "", 0o600) }, "d"},
		{"a directory for a file", func(a actor) {
			a.mkdir("d", 0o755)
			a.in("d").mkdir("x", 0o755)
			a.in("d/x").file(".wh.nothing", "", 0)
		}, "d/ d/sub/ d/sub/deep d/x/"},
		{"marks of aufs", func(a actor) { a.mkdir(".wh..wh.plnk", 0o700) }, "d/ d/sub/ d/sub/deep d/x"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tree := newTree(t)
			a := actor{t, tree.Root()}
			a.mkdir("d", 0o700)
			a.in("d").file("x", "x", 0o600)
			a.in("d").mkdir("sub", 0o700)
			a.in("d/sub").file("deep", "", 0o600)
			l := tree.Empty()
			tc.layer(actor{t, l.Root()})
			check(t, tree.Apply(l))
			if diff := cmp.Diff(tc.want, names(t, tree)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestCloneIsApart: a change of a clone does not show in the tree that was cloned.
func TestCloneIsApart(t *testing.T) {
	tree := newTree(t)
	a := actor{t, tree.Root()}
	a.file("one", "1", 0o600)
	a.do(a.dir.Link("two", a.dir, "one"))
	c := tree.Clone()
	b := actor{t, c.Root()}
	b.do(b.dir.Unlink("one"))
	b.file("three", "3", 0o600)
	if got := names(t, tree) + "; " + names(t, c); got != "one two; three two" {
		t.Error(got)
	}
}

// TestSetTimes: times of the current layer that are later than the epoch become the epoch; times of
// lower layers stay.
func TestSetTimes(t *testing.T) {
	tree := newTree(t)
	a := actor{t, tree.Root()}
	a.file("below", "", 0o600)
	a.do(a.dir.SetAttributes("below", fdfs.Attributes{Mtime: &fdfs.Time{Sec: 500}}))
	tree.Begin()
	for name, sec := range map[string]int64{"old": 10, "new": 1000} {
		a.file(name, "", 0o600)
		a.do(a.dir.SetAttributes(name, fdfs.Attributes{Mtime: &fdfs.Time{Sec: sec, Nsec: 7}}))
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

// TestErrors: a tree returns the errors of the kernel, because the rules of COPY depend on them.
func TestErrors(t *testing.T) {
	tree := newTree(t)
	a := actor{t, tree.Root()}
	a.mkdir("d", 0o700)
	a.in("d").file("x", "x", 0o600)
	a.do(a.dir.Make("link", fdfs.Entry{Type: fdfs.Symlink, Target: "d"}))
	other := newTree(t)
	second := func(_ any, err error) error { return err }
	_, _, openLink := a.dir.OpenFile("link")
	for _, tc := range []struct {
		name      string
		got, want error
	}{
		{"missing", second(a.dir.Stat("no")), fs.ErrNotExist},
		{"name that exists", a.dir.Make("d", fdfs.Entry{Type: fdfs.Directory}), fs.ErrExist},
		{"a link is no directory", second(a.dir.OpenDir("link")), fdfs.ENOTDIR},
		{"a link is not opened", openLink, fdfs.ELOOP},
		{"parent", second(a.dir.OpenDir("..")), fdfs.EINVAL},
		{"two components", second(a.dir.Stat("d/x")), fdfs.EINVAL},
		{"a directory is not unlinked", a.dir.Unlink("d"), fdfs.EISDIR},
		{"only an empty one is removed", a.dir.Rmdir("d"), fdfs.ENOTEMPTY},
		{"no link to a directory", a.dir.Link("e", a.dir, "d"), fdfs.EISDIR},
		{"nor into another tree", other.Root().Link("y", a.in("d").dir, "x"), fdfs.EXDEV},
		{"a long name", a.dir.Make(strings.Repeat("n", 256), fdfs.Entry{Type: fdfs.Directory}), fdfs.ENAMETOOLONG},
		{"a long link", a.dir.Make("l", fdfs.Entry{Type: fdfs.Symlink, Target: strings.Repeat("n", 4096)}), fdfs.ENAMETOOLONG},
		{"too many attributes", a.dir.SetAttributes(".", fdfs.Attributes{Xattrs: map[string]string{"user.x": strings.Repeat("x", maxXattrs)}}), errXattrs},
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

// TestNames: a hard link counts as a file, because a small layer with many links could fill the
// memory otherwise.
func TestNames(t *testing.T) {
	tree, small := newTree(t), newTree(t)
	a := actor{t, tree.Root()}
	a.file("one", "1", 0o600)
	tree.names = maxFiles - 1
	a.do(a.dir.Link("two", a.dir, "one"))
	if err := a.dir.Link("three", a.dir, "one"); !errors.Is(err, errTooMany) {
		t.Errorf("a link too many: %v", err)
	}
	actor{t, small.Root()}.file("one", "1", 0o600)
	if err := tree.Apply(small); !errors.Is(err, errTooMany) {
		t.Errorf("a layer too many: %v", err)
	}
}
