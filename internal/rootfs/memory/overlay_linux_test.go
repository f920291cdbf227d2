package memory

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
	"codeberg.org/rbuild/rbuild/pkg/commit"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func newTree(t *testing.T) *Tree {
	spool, err := NewSpool(t.TempDir())
	check(t, err)
	t.Cleanup(func() { check(t, spool.Close()) })
	return New(spool)
}

// actor does things in a directory and stops at the first error.
type actor struct {
	t   *testing.T
	dir fdfs.Dir
}

func (a actor) do(err error) {
	a.t.Helper()
	check(a.t, err)
}

// in is an actor for the directory path.
func (a actor) in(path string) actor {
	a.t.Helper()
	for name := range strings.SplitSeq(path, "/") {
		dir, err := a.dir.OpenDir(name)
		check(a.t, err)
		a.t.Cleanup(func() { check(a.t, dir.Close()) })
		a.dir = dir
	}
	return a
}

func (a actor) file(name, text string, mode uint32) {
	a.t.Helper()
	f, err := a.dir.Create(name, int64(len(text)))
	check(a.t, err)
	_, err = f.Write([]byte(text))
	check(a.t, errors.Join(err, f.SetMode(mode), f.SetOwner(3, 4), f.Close()))
}

// base makes what the layer below has.
func base(a actor) {
	for _, name := range []string{"d", "e", "f", "gone"} {
		a.do(a.dir.Mkdir(name, 0o755))
		a.in(name).file("x", name, 0o644)
		a.do(a.in(name).dir.Mkdir("sub", 0o700))
		a.in(name+"/sub").file("deep", "deep", 0o600)
	}
	a.file("file", "text", 0o4755)
	a.do(a.dir.Symlink("d", "link"))
	a.do(a.dir.Link(a.dir, "file", "hard"))
}

func remove(a actor, name string) {
	sub := a.in(name)
	a.do(sub.in("sub").dir.Unlink("deep"))
	a.do(sub.dir.Rmdir("sub"))
	a.do(sub.dir.Unlink("x"))
	a.do(a.dir.Rmdir(name))
}

// TestAsOverlayfs does the same to a tree and to an overlay: the layers must be the same to the byte.
func TestAsOverlayfs(t *testing.T) {
	nstest.Need(t)
	for _, tc := range []struct {
		name string
		do   func(a actor)
	}{
		{"nothing", func(actor) {}},
		{"new files", func(a actor) {
			a.file("new", "a new file", 0o640)
			a.do(a.dir.Mkdir("dir", 0o1755))
			a.in("dir").file("in", "", 0o644)
			a.do(a.dir.Symlink("nowhere", "sym"))
			a.do(a.dir.Mknod("fifo", fdfs.Fifo, 0o600, 0))
		}},
		{"deep below", func(a actor) { a.in("d/sub").file("new", "x", 0o600) }},
		{"replaced", func(a actor) {
			a.do(a.dir.Unlink("file"))
			a.file("file", "other", 0o600)
			a.do(a.dir.Unlink("link"))
			a.do(a.dir.Mkdir("link", 0o755))
			a.in("link").file("in", "in", 0o600)
		}},
		{"removed", func(a actor) {
			a.do(a.dir.Unlink("file"))
			remove(a, "gone")
			a.do(a.in("e").dir.Unlink("x"))
		}},
		{"removed and made again", func(a actor) {
			remove(a, "gone")
			a.do(a.dir.Mkdir("gone", 0o755))
			a.in("gone").file("y", "y", 0o644)
			remove(a, "e")
			a.file("e", "a file now", 0o644)
		}},
		{"made and removed", func(a actor) {
			a.file("new", "x", 0o644)
			a.do(a.dir.Unlink("new"))
			a.in("d").file("new", "x", 0o644)
			a.do(a.in("d").dir.Unlink("new"))
		}},
		{"changed", func(a actor) {
			a.do(a.dir.Chmod("d", 0o700))
			a.do(a.dir.Chown("link", 7, 8))
			a.do(a.in("e").dir.SetMtime(".", fdfs.Time{Sec: 5}))
		}},
		{"root", func(a actor) { a.do(a.dir.Chmod(".", 0o700)) }},
		{"hard links", func(a actor) {
			a.file("one", "1", 0o600)
			a.do(a.in("d").dir.Link(a.dir, "one", "two"))
			a.do(a.dir.Link(a.in("d").dir, "two", "a-third"))
			a.do(a.dir.Link(a.in("e").dir, "x", "below"))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want, got := onOverlay(t, tc.do), inTree(t, tc.do)
			if diff := cmp.Diff(list(t, want), list(t, got)); diff != "" {
				t.Errorf("(-overlay +tree):\n%s", diff)
			}
			if !bytes.Equal(want, got) {
				t.Error("the layers differ")
			}
		})
	}
}

func options() commit.TarOptions {
	epoch := time.Unix(1000, 0)
	return commit.TarOptions{Epoch: &epoch}
}

func onOverlay(t *testing.T, do func(actor)) []byte {
	at := t.TempDir()
	var dirs []*os.File
	for _, name := range []string{"lower", "upper", "work"} {
		check(t, os.Mkdir(filepath.Join(at, name), 0o755))
		f, err := os.Open(filepath.Join(at, name))
		check(t, err)
		defer f.Close()
		dirs = append(dirs, f)
	}

	base(actor{t, fdfs.OnDisk(dirs[0])})
	root, err := overlay.Open(overlay.Mount{Lowers: []string{at + "/lower"}, Upper: at + "/upper", Work: at + "/work"})
	check(t, err)
	do(actor{t, fdfs.OnDisk(root)})
	check(t, root.Close())
	var out bytes.Buffer
	o := options()
	o.Below = &commit.RootDir{Mode: 0o755}
	_, err = commit.WriteTar(t.Context(), dirs[1], &out, o)
	check(t, err)

	return out.Bytes()
}

func inTree(t *testing.T, do func(actor)) []byte {
	tree := newTree(t)
	base(actor{t, tree.Root()})
	tree.Begin()
	do(actor{t, tree.Root()})
	var out bytes.Buffer
	_, err := tree.WriteLayer(t.Context(), &out, options())
	check(t, err)
	return out.Bytes()
}

func list(t *testing.T, data []byte) (lines []string) {
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		check(t, err)
		text, err := io.ReadAll(r)
		check(t, err)
		lines = append(lines, fmt.Sprintf("%c %s %o %d:%d %s %q", h.Typeflag, h.Name, h.Mode, h.Uid, h.Gid, h.Linkname, text))
	}
}
