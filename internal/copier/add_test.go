package copier

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/archive"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
	"codeberg.org/rbuild/rbuild/internal/treetest"
)

// TestAdd: ADD unpacks an archive of every format, and copies a file that is no archive.
func TestAdd(t *testing.T) {
	nstest.Need(t)
	yes, no := true, false
	unpacked := []string{
		"x directory 0755 0:0", "x/a regular 4750 0:0 A =x/a", "x/abs directory 0755 0:0", "x/abs/implied regular 0644 5:0 I",
		"x/h regular 4750 0:0 A =x/a", "x/l -> a 0:0", "x/p fifo 0640 0:0", "x/sub directory 0555 0:0", "x/sub/b regular 0644 77:88 B",
	}

	for format, pack := range treetest.Compressors(t) {
		t.Run(format, func(t *testing.T) {
			src, root := t.TempDir(), t.TempDir()
			treetest.Write(t, src, "any.name", pack(treetest.Tar(t, treetest.Mixed()...)))
			if err := do(t, src, nil, root, Spec{Sources: []string{"any.name"}, Dest: "/x", Add: true}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(unpacked, treetest.List(t, root)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if st, err := os.Lstat(filepath.Join(root, "x/sub")); err != nil || st.ModTime().Unix() != 1 {
				t.Errorf("time of the directory: %v, %v", st.ModTime(), err)
			}
		})
	}

	src := t.TempDir()
	treetest.Write(t, src, "t", treetest.Tar(t, treetest.Entry{Name: "d/a", Data: "A", UID: 3}))
	treetest.Write(t, src, "single.gz", treetest.Compressors(t)["gz"]([]byte("one\n")))
	treetest.Write(t, src, "zeros", make([]byte, 10240))
	for _, tc := range []struct {
		name string
		spec Spec
		root []string
		want []string
	}{
		{name: "chown", spec: Spec{Sources: []string{"t"}, Chown: &fdfs.Owner{UID: 8, GID: 9}, Add: true}, want: []string{
			"x directory 0755 8:9", "x/d directory 0755 8:9", "x/d/a regular 0644 8:9 A",
		}},
		{name: "not a tar", spec: Spec{Sources: []string{"single.gz"}, Add: true}, want: []string{"x directory 0755 0:0", "x/single.gz regular 0644 0:0"}},
		{name: "zeros", spec: Spec{Sources: []string{"zeros"}, Add: true}, want: []string{"x directory 0755 0:0", "x/zeros regular 0644 0:0"}},
		{name: "copied", spec: Spec{Sources: []string{"t"}}, want: []string{"x directory 0755 0:0", "x/t regular 0644 0:0"}},
		{name: "not to be unpacked", spec: Spec{Sources: []string{"t"}, Add: true, Unpack: &no}, want: []string{"x directory 0755 0:0", "x/t regular 0644 0:0"}},
		{name: "to be unpacked", spec: Spec{Sources: []string{"t"}, Add: true, Unpack: &yes}, want: []string{
			"x directory 0755 0:0", "x/d directory 0755 0:0", "x/d/a regular 0644 3:0 A",
		}},
		{name: "over what is there", spec: Spec{Sources: []string{"t"}, Add: true}, root: []string{"f old 644 o", "d x/d/a/b 700", "d x/keep 700"}, want: []string{
			"old regular 0644 0:0 o", "x directory 0755 0:0", "x/d directory 0755 0:0", "x/d/a regular 0644 3:0 A", "x/keep directory 0700 0:0",
		}},
		{name: "through a link", spec: Spec{Sources: []string{"t"}, Add: true}, root: []string{"d x/real 755", "l x/d /real"}, want: []string{
			"x directory 0755 0:0", "x/d -> /real 0:0", "x/real directory 0755 0:0", "x/real/a regular 0644 3:0 A",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := treetest.Build(t, t.TempDir(), tc.root...)
			tc.spec.Dest = "/x/"
			if err := do(t, src, nil, root, tc.spec); err != nil {
				t.Fatal(err)
			}
			got := treetest.List(t, root)
			for i, line := range got {
				if !strings.Contains(line, "->") {
					f := strings.Fields(line) // without the content of archives
					if len(f) > 4 && len(f[4]) > 1 {
						got[i] = strings.Join(f[:4], " ")
					}
				}
				if strings.Contains(line, "/zeros") {
					got[i] = strings.Join(strings.Fields(line)[:4], " ")
				}
			}

			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzExtractContext: no tar makes a file outside of the context, and the unpacked files can be
// selected.
func FuzzExtractContext(f *testing.F) {
	f.Add(treetest.Tar(f, treetest.Mixed()...))
	f.Add(treetest.Tar(f, treetest.Entry{Name: "l", Type: tar.TypeSymlink, Link: "../out"}, treetest.Entry{Name: "l/canary", Data: "x"}))
	f.Add(treetest.Tar(f, treetest.Entry{Name: "h", Type: tar.TypeLink, Link: "l/../../out/canary"}))
	f.Add(treetest.Tar(f, treetest.Entry{Name: strings.Repeat("d/", 200) + "x", Data: "x", PAX: map[string]string{"SCHILY.xattr.user.x": "y"}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		in := filepath.Join(dir, "in")
		if err := os.Mkdir(in, 0o755); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()

		_, err := archive.ExtractContext(ctx, bytes.NewReader(data), in)
		names, err2 := os.ReadDir(dir)
		if err2 != nil || len(names) != 1 {
			t.Fatalf("beside the context: %v, %v", names, err2)
		}
		if err != nil {
			return
		}

		tree, err := OpenContext(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		if sel, err := Select(ctx, tree, Spec{Sources: []string{"."}, Dest: "/"}); err == nil {
			sel.Close()
		} else if !strings.Contains(err.Error(), ".wh.") && !strings.Contains(fmt.Sprint(err), "permission") {
			t.Fatal(err)
		}
	})
}
