package copier

import (
	"archive/tar"
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/archive"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
	"codeberg.org/rbuild/rbuild/internal/treetest"
)

// TestCapabilities: capabilities are kept and other extended attributes are not, from a context and
// from a stage.
func TestCapabilities(t *testing.T) {
	nstest.Need(t)
	caps := []byte("\x01\x00\x00\x02\x00\x04\x00\x00" + strings.Repeat("\x00", 12))
	src := treetest.Build(t, t.TempDir(), "f d/f 4755 F")
	f, err := os.Open(filepath.Join(src, "d/f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	if err := fdfs.Setxattr(f, xattrCaps, caps); err != nil {
		t.Fatal(err)
	}
	if err := fdfs.Setxattr(f, "user.x", []byte("x")); err != nil {
		t.Skip("the file system of the test's directory keeps no user attributes:", err)
	}
	for name, tree := range map[string]*Tree{"stage": OpenRoot(fdfs.OnDisk(treetest.Open(t, src))), "context": {root: fdfs.OnDisk(treetest.Open(t, src)), context: true}} {
		root := t.TempDir()
		if err := doTree(t, tree, root, Spec{Sources: []string{"d"}, Dest: "/", Chown: &fdfs.Owner{UID: 7, GID: 8}}); err != nil {
			t.Fatal(err)
		}
		g, err := os.Open(filepath.Join(root, "f"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := fdfs.Getxattr(g, xattrCaps); err != nil || !bytes.Equal(got, caps) {
			t.Errorf("%s: capabilities %q, %v", name, got, err)
		}
		if got, err := fdfs.Getxattr(g, "user.x"); err != nil || got != nil {
			t.Errorf("%s: user.x is %q, %v", name, got, err)
		}
		g.Close()
		mode := map[string]string{"stage": "4755", "context": "0755"}[name]
		if diff := cmp.Diff([]string{"f regular " + mode + " 7:8 F"}, treetest.List(t, root)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestStage: files of a stage keep their owners without --chown.
func TestStage(t *testing.T) {
	nstest.Need(t)
	src := treetest.Build(t, t.TempDir(), "f m/a 6711 A", "d m/t 1777", "l m/l a", "p m/p 600")
	for name, uid := range map[string]int{"m": 9, "m/a": 33, "m/t": 34, "m/l": 35, "m/p": 36} {
		if err := os.Lchown(filepath.Join(src, name), uid, uid+1); err != nil {
			t.Fatal(err)
		}
	}

	if err := os.Chmod(filepath.Join(src, "m/a"), 0o711|os.ModeSetuid|os.ModeSetgid); err != nil { // chown(2) took them
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := doTree(t, OpenRoot(fdfs.OnDisk(treetest.Open(t, src))), root, Spec{Sources: []string{"/m", "/m/a"}, Inline: []File{{"i", []byte("I")}}, Dest: "/x/"}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"x directory 0755 0:0", "x/a regular 6711 33:34 A", "x/i regular 0644 0:0 I", "x/l -> a 35:36", "x/p fifo 0600 36:37",
		"x/t directory 1777 34:35",
	}

	if diff := cmp.Diff(want, treetest.List(t, root)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestSocket: a socket in a source directory is left out with a warning. A socket as the source is
// an error.
func TestSocket(t *testing.T) {
	nstest.Need(t)
	src := treetest.Build(t, t.TempDir(), "f d/f 644 F")
	l, err := net.Listen("unix", filepath.Join(src, "d/s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	tree, err := OpenContext(src, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()

	sel, err := Select(context.Background(), tree, Spec{Sources: []string{"d"}, Dest: "/"})
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := sel.Write(context.Background(), fdfs.OnDisk(treetest.Open(t, root))); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"f regular 0644 0:0 F"}, treetest.List(t, root)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if w := sel.Warnings(); len(w) != 1 || !strings.Contains(w[0], "d/s") {
		t.Errorf("warnings %q", w)
	}
	sel, err = Select(context.Background(), tree, Spec{Sources: []string{"d/*"}, Dest: "/x/"})
	if err != nil || len(sel.items) != 1 || len(sel.Warnings()) != 1 {
		t.Errorf("a socket that a pattern matches: %v", err)
	}
	if _, err := Select(context.Background(), tree, Spec{Sources: []string{"d/s"}, Dest: "/"}); err == nil || !strings.Contains(err.Error(), "socket") {
		t.Errorf("a socket as the source: %v", err)
	}
}

// TestWhiteoutName: a source whose name means a deletion in a layer is an error.
func TestWhiteoutName(t *testing.T) {
	for _, name := range []string{"d/.wh.keep", "d/.wh.dir/f", "d/x/.wh..wh..opq"} {
		tree, err := OpenContext(treetest.Build(t, t.TempDir(), "f "+name+" 644 x"), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, source := range []string{"d", ".", "d*"} {
			if _, err := Select(context.Background(), tree, Spec{Sources: []string{source}, Dest: "/x/"}); err == nil || !strings.Contains(err.Error(), ".wh.") {
				t.Errorf("%s of %s: %v", source, name, err)
			}
		}
		tree.Close()
	}
}

// TestSparse: holes of a large file stay holes, and the data stay in their places.
func TestSparse(t *testing.T) {
	nstest.Need(t)
	src, root := t.TempDir(), t.TempDir()
	f, err := os.Create(filepath.Join(src, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	for _, off := range []int64{0, 5 << 20, 9<<20 + 7} {
		if _, err := f.WriteAt([]byte("data"), off); err != nil {
			t.Fatal(err)
		}
	}

	if err := f.Truncate(12 << 20); err != nil {
		t.Fatal(err)
	}
	waitOld()
	if err := do(t, src, nil, root, Spec{Sources: []string{"."}, Dest: "/"}); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	g, err := os.Open(filepath.Join(root, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()

	got, err := os.ReadFile(g.Name())
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if start, _, _, err := fdfs.NextData(g, 1<<20, 12<<20); err != nil || start < 4<<20 {
		t.Errorf("the next data after 1 MiB is at %d, %v", start, err)
	}
}

// TestDeepTree copies a tree that is deeper than a path may be long.
func TestDeepTree(t *testing.T) {
	nstest.Need(t)
	src, root := t.TempDir(), t.TempDir()
	deep := strings.Repeat("d/", 500) + "f"
	dir := treetest.Open(t, src)
	mkdir := func(d fdfs.Dir, name string) error { return d.Make(name, fdfs.Entry{Type: fdfs.Directory}) }
	c := fdfs.NewCursor(fdfs.OnDisk(dir))
	defer c.Close()

	for range 4 { // deeper than a path may be long
		if err := c.Enter(strings.TrimSuffix(deep, "/f"), mkdir); err != nil {
			t.Fatal(err)
		}
	}

	f, err := c.Dir().Create("f", 0)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	c.Close()
	if err := do(t, src, nil, root, Spec{Sources: []string{"d"}, Dest: "/d"}); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if err := c.Enter(strings.TrimSuffix(deep, "/f"), nil); err != nil {
			t.Fatal(err)
		}
	}

	if _, err := c.Dir().Stat("f"); err != nil {
		t.Error(err)
	}
	c.Close()

	// The test's own cleaning up goes by paths; this one does not.
	for _, at := range []string{src, root} {
		if err := fdfs.RemoveAll(fdfs.OnDisk(treetest.Open(t, at)), "d"); err != nil {
			t.Error(err)
		}
	}
}

// TestDevices: a device in a source directory is left out with a warning, from a context and from
// an image. A device as the source is an error.
func TestDevices(t *testing.T) {
	nstest.Need(t)
	src := treetest.Build(t, t.TempDir(), "f d/f 644 F", "f d/null 644", "f d/zero 644")
	for _, name := range []string{"null", "zero"} { // nobody in a user namespace can make a node, but show one
		place := filepath.Join(src, "d", name)
		if err := unix.Mount("/dev/"+name, place, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(place, unix.MNT_DETACH) })
	}

	for name, tree := range map[string]*Tree{"stage": OpenRoot(fdfs.OnDisk(treetest.Open(t, src))), "context": {root: fdfs.OnDisk(treetest.Open(t, src)), context: true}} {
		sel, err := Select(context.Background(), tree, Spec{Sources: []string{"d"}, Dest: "/"})
		if err != nil {
			t.Fatal(err)
		}
		root := t.TempDir()
		if err := sel.Write(context.Background(), fdfs.OnDisk(treetest.Open(t, root))); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"f regular 0644 0:0 F"}, treetest.List(t, root)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff([]string{"2 devices are left out, d/null the first"}, sel.Warnings()); diff != "" {
			t.Errorf("%s: warnings (-want +got):\n%s", name, diff)
		}
		sel, err = Select(context.Background(), tree, Spec{Sources: []string{"d/n*"}, Dest: "/x/"})
		if err != nil || len(sel.items) != 0 || !slices.Equal(sel.Warnings(), []string{"d/null is a device and left out"}) {
			t.Errorf("%s: a device that a pattern matches: %v", name, err)
		}
		if _, err := Select(context.Background(), tree, Spec{Sources: []string{"d/null"}, Dest: "/"}); err == nil || !strings.Contains(err.Error(), "device cannot be copied") {
			t.Errorf("%s: a device as the source: %v", name, err)
		}
	}
}

// TestDevicesOfArchive: devices of an archive, and hard links to them, are left out. Warnings
// reports them after Write.
func TestDevicesOfArchive(t *testing.T) {
	nstest.Need(t)
	dir := t.TempDir()
	data := treetest.Tar(
		t, treetest.Entry{Name: "dev/", Type: tar.TypeDir}, treetest.Entry{Name: "dev/null", Type: tar.TypeChar}, treetest.Entry{Name: "dev/link", Type: tar.TypeLink, Link: "./dev/null"},
		treetest.Entry{Name: "dev/sda", Type: tar.TypeBlock}, treetest.Entry{Name: "f", Data: "F"},
	)

	if err := os.WriteFile(filepath.Join(dir, "a.tar"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	tree, err := OpenContext(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()

	sel, err := Select(context.Background(), tree, Spec{Sources: []string{"a.tar"}, Dest: "/", Add: true})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // written again, it warns of the same once
		root := t.TempDir()
		if err := sel.Write(context.Background(), fdfs.OnDisk(treetest.Open(t, root))); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"dev directory 0644 0:0", "f regular 0644 0:0 F"}, treetest.List(t, root)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"a.tar: 3 devices are left out, dev/null the first"}, sel.Warnings()); diff != "" {
			t.Errorf("warnings (-want +got):\n%s", diff)
		}
	}

	devices, err := archive.ExtractContext(context.Background(), bytes.NewReader(data), t.TempDir())
	if want := (archive.Devices{First: "dev/null", Count: 3}); devices != want || err != nil {
		t.Errorf("as a context: %v, %v", devices, err)
	}
}
