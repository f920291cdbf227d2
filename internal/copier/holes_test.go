package copier

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
	"codeberg.org/rbuild/rbuild/internal/treetest"
)

// TestHolesAreKept: the digest of a sparse file is that of its content, and the copy of a sparse
// file is sparse: also if the file changed so shortly before that it is digested again while it is
// copied.
func TestHolesAreKept(t *testing.T) {
	nstest.Need(t)
	const size = 24<<20 + 17
	parts := map[int64]string{0: "start", 5 << 20: strings.Repeat("middle", 1000), size - 3: "end"}
	sparse, whole := t.TempDir(), t.TempDir()
	treetest.WriteSparse(t, filepath.Join(sparse, "f"), size, parts)
	content, err := os.ReadFile(filepath.Join(sparse, "f"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(whole, "f"), content, 0o644); err != nil {
		t.Fatal(err)
	}
	if treetest.DataSize(t, filepath.Join(sparse, "f")) == size {
		t.Skip("the file system of temporary files makes no holes")
	}
	for _, age := range []time.Duration{0, time.Hour} { // racy, and not
		for _, dir := range []string{sparse, whole} {
			name := filepath.Join(dir, "f")
			if age > 0 {
				time.Sleep(2 * racyWindow)
			} else if err := os.Chmod(name, 0o644); err != nil {
				t.Fatal(err)
			}

			tree, err := OpenContext(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			sel, err := Select(t.Context(), tree, Spec{Sources: []string{"f"}, Dest: "/f"})
			if err != nil {
				t.Fatal(err)
			}
			if got, want := sel.items[0].node.sum, sha256.Sum256(content); got != want {
				t.Errorf("%v, %s: the digest is %x, want %x", age, dir, got, want)
			}
			sel.items[0].node.racy = age == 0
			to := t.TempDir()
			root, err := os.Open(to)
			if err != nil {
				t.Fatal(err)
			}
			if err := sel.Write(t.Context(), fdfs.OnDisk(root)); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(to, "f")); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%v, %s: the copy is another file (%v)", age, dir, err)
			}
			if data := treetest.DataSize(t, filepath.Join(to, "f")); data > size/4 && (dir == sparse || age == 0) {
				t.Errorf("%v, %s: the copy has %d bytes of data", age, dir, data)
			}
			for _, close := range []func() error{root.Close, sel.Close, tree.Close} {
				if err := close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// TestLargeHolesAreReported: Spec.Sparse is called for a file with large holes and for no other.
func TestLargeHolesAreReported(t *testing.T) {
	dir := t.TempDir()
	treetest.WriteSparse(t, filepath.Join(dir, "large"), 1<<30+1<<20, map[int64]string{1 << 20: "x"})
	treetest.WriteSparse(t, filepath.Join(dir, "small"), 1<<29, nil)
	tree, err := OpenContext(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()

	reported := make(chan string, 10)
	sel, err := Select(t.Context(), tree, Spec{Sources: []string{"*"}, Dest: "/d/", Sparse: func(source string, size, data int64) {
		reported <- fmt.Sprintf("%s %d %v", source, size, data > 0 && data < 1<<20)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer sel.Close()

	close(reported)
	var got []string
	for text := range reported {
		got = append(got, text)
	}
	if want := "large 1074790400 true"; strings.Join(got, ",") != want {
		t.Errorf("reported %q, want %q", got, want)
	}
}
