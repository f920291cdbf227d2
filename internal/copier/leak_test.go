package copier

import (
	"context"
	"os"
	"runtime/debug"
	"testing"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
	"codeberg.org/rbuild/rbuild/internal/treetest"
)

// TestDescriptors: after Select and Write no descriptor stays open, whether they succeed or fail.
func TestDescriptors(t *testing.T) {
	nstest.Need(t)
	src := treetest.Build(t, t.TempDir(), append(plainContext, "f bad/.wh.x 644 x", "f bad/a 644 a", "d bad/d 755")...)
	treetest.Write(t, src, "t.tar", treetest.Tar(t, treetest.Mixed()...))
	treetest.Write(t, src, "bad.tar", treetest.Tar(t, treetest.Entry{Name: "a", Data: "a"}, treetest.Entry{Name: "../x"}))
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // else the garbage collector would close forgotten files

	count := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc:", err)
		}
		return len(names)
	}

	for _, spec := range []Spec{
		{Sources: []string{"."}, Dest: "/x/"},
		{Sources: []string{"d", "tree", "file*", "l*", "hl"}, Dest: "/x/"},
		{Sources: []string{"bad"}, Dest: "/x/"},
		{Sources: []string{"no"}, Dest: "/x/"},
		{Sources: []string{"d", "f"}, Dest: "/file/"},
		{Sources: []string{"tree"}, Dest: "/"},
		{Sources: []string{"dir*/**/*.cfg"}, Dest: "/x/", Parents: true},
		{Sources: []string{"t.tar"}, Dest: "/x/", Add: true},
		{Sources: []string{"bad.tar"}, Dest: "/x/", Add: true},
		{Sources: []string{"f"}, Dest: "/dirlink/x/y"},
		{Sources: []string{"f"}, Dest: "/file/x"},
		{Sources: []string{"hl"}, Dest: "/x", Chown: &fdfs.Owner{UID: 4000000000, GID: 0}},
	} {
		root := treetest.Build(t, t.TempDir(), "f file 644 x", "d dirlink 755")
		r := treetest.Open(t, root)
		before := count()
		tree, err := OpenContext(src, []string{"special"})
		if err != nil {
			t.Fatal(err)
		}
		sel, err := Select(context.Background(), tree, spec)
		if err == nil {
			err = sel.Write(context.Background(), fdfs.OnDisk(r))
			if err := sel.Close(); err != nil {
				t.Error(err)
			}
		}

		if err := tree.Close(); err != nil {
			t.Error(err)
		}
		if after := count(); after != before {
			t.Errorf("%v to %s (%v): %d descriptors before, %d after", spec.Sources, spec.Dest, err, before, after)
		}
	}
}
