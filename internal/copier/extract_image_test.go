package copier

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
)

// imageTar is what commit.WriteTar could make of an image. Its first name begins like a file of bzip2.
func imageTar(t *testing.T, more ...entry) []byte {
	t.Helper()
	return makeTar(t, append([]entry{
		{name: "BZh91AY", data: "B"},
		{name: "d/", typ: tar.TypeDir, mode: 0o2755, uid: 7, pax: map[string]string{paxXattr + "user.kind": "blue"}},
		{name: "d/s", mode: 0o4755, data: "S", uid: 7, gid: 8, pax: map[string]string{
			paxXattr + "user.kind": "red", paxXattr + xattrCaps: string(capability),
		}},
		{name: "d/t", typ: tar.TypeLink, link: "d/s"},
		{name: "l", typ: tar.TypeSymlink, link: "/etc"},
	}, more...)...)
}

// capability is cap_net_raw=p, as revision 2.
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
	if diff := cmp.Diff(want, list(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := xattr(t, dir+"/d", "user.kind") + xattr(t, dir+"/d/s", "user.kind"); got != "bluered" {
		t.Errorf("attributes %q", got)
	}
	if xattr(t, dir+"/d/s", xattrCaps) == "" {
		t.Error("no capability")
	}
}

func TestExtractFiles(t *testing.T) {
	nstest.Need(t)
	parent := t.TempDir()
	out, dir := filepath.Join(parent, "out"), filepath.Join(parent, "in")
	build(t, parent, "d out 755", "f out/keep 644 k", "d in 755", "f in/keep 644 k", "l in/d ../out", "d in/l/deep 700", "l in/BZh91AY ../out/keep")
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()

	stream := imageTar(t, entry{name: "null", typ: tar.TypeChar}, entry{name: "null2", typ: tar.TypeLink, link: "null"})
	if err := ExtractFiles(t.Context(), bytes.NewReader(stream), root); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"BZh91AY regular 0644 0:0 B", "d directory 0755 0:0", "d/s regular 0755 0:0 S =d/s", "d/t regular 0755 0:0 S =d/s", "keep regular 0644 0:0 k",
		"l -> /etc 0:0",
	}

	if diff := cmp.Diff(want, list(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"keep regular 0644 0:0 k"}, list(t, out)); diff != "" {
		t.Errorf("outside (-want +got):\n%s", diff)
	}
	if got := xattr(t, dir+"/d/s", xattrCaps) + xattr(t, dir+"/d", "user.kind"); got != "" {
		t.Errorf("attributes %q", got)
	}
}
