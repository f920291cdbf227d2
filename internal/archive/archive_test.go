package archive

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
	"codeberg.org/rbuild/rbuild/internal/treetest"
)

// imageTar returns a tar as commit.WriteTar makes it of an image. Its first bytes are those of a
// bzip2 file, which must not be taken for a compression.
func imageTar(t *testing.T, more ...treetest.Entry) []byte {
	t.Helper()
	return treetest.Tar(t, append([]treetest.Entry{
		{Name: "BZh91AY", Data: "B"},
		{Name: "d/", Type: tar.TypeDir, Mode: 0o2755, UID: 7, PAX: map[string]string{paxXattr + "user.kind": "blue"}},
		{Name: "d/s", Mode: 0o4755, Data: "S", UID: 7, GID: 8, PAX: map[string]string{
			paxXattr + "user.kind": "red", paxXattr + xattrCaps: string(capability),
		}},
		{Name: "d/t", Type: tar.TypeLink, Link: "d/s"},
		{Name: "l", Type: tar.TypeSymlink, Link: "/etc"},
	}, more...)...)
}

// capability is cap_net_raw=p in revision 2 of the format.
var capability = []byte{0, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

func xattr(t *testing.T, path, key string) string {
	t.Helper()
	buf := make([]byte, 256)
	n, err := unix.Getxattr(path, key, buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// TestExtractImage: owners, modes and all extended attributes are set.
func TestExtractImage(t *testing.T) {
	nstest.Need(t)
	dir := t.TempDir()
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()

	if err := ExtractImage(t.Context(), bytes.NewReader(imageTar(t)), root); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"BZh91AY regular 0644 0:0 B", "d directory 2755 7:0", "d/s regular 4755 7:8 S =d/s", "d/t regular 4755 7:8 S =d/s", "l -> /etc 0:0",
	}
	if diff := cmp.Diff(want, treetest.List(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := xattr(t, dir+"/d", "user.kind") + xattr(t, dir+"/d/s", "user.kind"); got != "bluered" {
		t.Errorf("attributes %q", got)
	}
	if xattr(t, dir+"/d/s", xattrCaps) == "" {
		t.Error("no capability")
	}
}

// TestExtractFiles: files belong to the caller, links in the directory are not followed, and
// nothing outside changes.
func TestExtractFiles(t *testing.T) {
	nstest.Need(t)
	parent := t.TempDir()
	out, dir := filepath.Join(parent, "out"), filepath.Join(parent, "in")
	treetest.Build(t, parent, "d out 755", "f out/keep 644 k", "d in 755", "f in/keep 644 k", "l in/d ../out", "d in/l/deep 700", "l in/BZh91AY ../out/keep")
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()

	stream := imageTar(t, treetest.Entry{Name: "null", Type: tar.TypeChar}, treetest.Entry{Name: "null2", Type: tar.TypeLink, Link: "null"})
	if err := ExtractFiles(t.Context(), bytes.NewReader(stream), root); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"BZh91AY regular 0644 0:0 B", "d directory 0755 0:0", "d/s regular 0755 0:0 S =d/s", "d/t regular 0755 0:0 S =d/s", "keep regular 0644 0:0 k",
		"l -> /etc 0:0",
	}

	if diff := cmp.Diff(want, treetest.List(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"keep regular 0644 0:0 k"}, treetest.List(t, out)); diff != "" {
		t.Errorf("outside (-want +got):\n%s", diff)
	}
	if got := xattr(t, dir+"/d/s", xattrCaps) + xattr(t, dir+"/d", "user.kind"); got != "" {
		t.Errorf("attributes %q", got)
	}
}
