package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
	"codeberg.org/rbuild/rbuild/internal/treetest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// TestHostileTar unpacks tars whose entries lead out. Each is unpacked into DIR/in, and DIR/out
// stays as it was.
func TestHostileTar(t *testing.T) {
	nstest.Need(t)
	for _, tc := range []struct {
		name    string
		entries []treetest.Entry
		err     string // empty: it is unpacked inside
	}{
		{"dot dot", []treetest.Entry{{Name: "../out/canary", Data: "x"}}, "leads out"},
		{"dot dot behind", []treetest.Entry{{Name: "a/../../out/canary", Data: "x"}}, "leads out"},
		{"absolute dot dot", []treetest.Entry{{Name: "/../out/canary", Data: "x"}}, "leads out"},
		{"absolute", []treetest.Entry{{Name: "OUT/canary", Data: "x"}}, ""},
		{"through a relative link", []treetest.Entry{{Name: "l", Type: tar.TypeSymlink, Link: "../out"}, {Name: "l/canary", Data: "x"}}, ""},
		{"through an absolute link", []treetest.Entry{{Name: "l", Type: tar.TypeSymlink, Link: "OUT"}, {Name: "l/canary", Data: "x"}}, ""},
		{"through a link in a link", []treetest.Entry{
			{Name: "a", Type: tar.TypeSymlink, Link: ".."}, {Name: "b", Type: tar.TypeSymlink, Link: "a/out"}, {Name: "b/canary", Data: "x"},
		}, ""},
		{"onto a link", []treetest.Entry{{Name: "l", Type: tar.TypeSymlink, Link: "../out/canary"}, {Name: "l", Data: "x"}}, ""},
		{"metadata of a link", []treetest.Entry{{Name: "l", Type: tar.TypeSymlink, Link: "../out"}, {Name: "l", Type: tar.TypeDir, Mode: 0o777}}, ""},
		{"directory becomes a link", []treetest.Entry{
			{Name: "d", Type: tar.TypeDir, Mode: 0o777}, {Name: "d/x", Data: "x"}, {Name: "d", Type: tar.TypeSymlink, Link: "../out"}, {Name: "d/canary", Data: "x"},
		}, ""},
		{"hard link out", []treetest.Entry{{Name: "h", Type: tar.TypeLink, Link: "../out/canary"}, {Name: "h", Data: "x"}}, "leads out"},
		{"absolute hard link", []treetest.Entry{{Name: "h", Type: tar.TypeLink, Link: "OUT/canary"}}, "hard link"},
		{"hard link through a link", []treetest.Entry{{Name: "l", Type: tar.TypeSymlink, Link: "../out"}, {Name: "h", Type: tar.TypeLink, Link: "l/canary"}}, "hard link"},
		{"hard link to a link", []treetest.Entry{
			{Name: "l", Type: tar.TypeSymlink, Link: "../out/canary"}, {Name: "h", Type: tar.TypeLink, Link: "l"}, {Name: "h", Mode: 0o777, Data: "x"},
		}, ""},
		{"hard link to itself", []treetest.Entry{{Name: "h", Data: "h"}, {Name: "h", Type: tar.TypeLink, Link: "h"}}, ""},
		{"link loop", []treetest.Entry{{Name: "l", Type: tar.TypeSymlink, Link: "l"}, {Name: "l/x", Data: "x"}}, "levels"},
		{"whiteout", []treetest.Entry{{Name: "d/.wh.x", Data: ""}}, ".wh.x"},
		{"below a whiteout's name", []treetest.Entry{{Name: ".wh.d/x", Data: ""}}, ".wh.d"},
		{"unknown type", []treetest.Entry{{Name: "x", Type: 'Z'}}, "type"},
		{"root as a link", []treetest.Entry{{Name: ".", Type: tar.TypeSymlink, Link: "../out"}, {Name: "canary", Data: "x"}}, ""},
		{"foreign attributes", []treetest.Entry{{Name: "x", Data: "x", PAX: map[string]string{
			"SCHILY.xattr.user.overlay.opaque": "y", "SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.x": "y",
		}}}, ""},
		{"owner that is none", []treetest.Entry{{Name: "x", UID: -1}}, "-1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			out := treetest.Build(t, filepath.Join(dir, "out"), "f canary 600 canary")
			if err := os.Chmod(out, 0o750); err != nil {
				t.Fatal(err)
			}
			in := filepath.Join(dir, "in")
			if err := os.Mkdir(in, 0o755); err != nil {
				t.Fatal(err)
			}
			entries := append([]treetest.Entry{}, tc.entries...)
			for i := range entries {
				entries[i].Name = strings.Replace(entries[i].Name, "OUT", out, 1)
				entries[i].Link = strings.Replace(entries[i].Link, "OUT", out, 1)
			}

			root := treetest.Open(t, in)
			_, err := ExtractAdded(context.Background(), bytes.NewReader(treetest.Tar(t, entries...)), fdfs.OnDisk(root), nil)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			want := []string{"canary regular 0600 0:0 canary"}
			if diff := cmp.Diff(want, treetest.List(t, out)); diff != "" {
				t.Errorf("outside (-want +got):\n%s", diff)
			}
			if st, err := os.Stat(out); err != nil || st.Mode().Perm() != 0o750 || st.ModTime().Unix() == 1 {
				t.Errorf("the directory outside is %v, %v", st, err)
			}
			if f, err := os.Open(filepath.Join(in, "x")); err == nil {
				for _, key := range []string{"user.overlay.opaque", "user.x"} {
					if v, err := fdfs.Getxattr(f, key); v != nil || err != nil {
						t.Errorf("%s is %q, %v", key, v, err)
					}
				}
				f.Close()
			}
		})
	}
}

// newBomb returns a tar of one file of size zeros. The reader never ends.
func newBomb(t *testing.T, size int64) io.Reader {
	t.Helper()
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Name: "bomb", Mode: 0o644, Size: size, Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	return io.MultiReader(&b, zeros{})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestBounds: a tar that is too large is refused, and unpacking stops when the context ends.
func TestBounds(t *testing.T) {
	if _, err := ExtractContext(context.Background(), newBomb(t, maxBytes+1), t.TempDir()); err == nil || !strings.Contains(err.Error(), "bomb") {
		t.Errorf("a file over the bound: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()

	dir := t.TempDir()
	if _, err := ExtractContext(ctx, newBomb(t, maxBytes), dir); err == nil {
		t.Error("a build that is stopped unpacks all the same")
	}

	// Zeros take no room.
	if _, err := ExtractContext(context.Background(), io.MultiReader(io.LimitReader(newBomb(t, 64<<20), 64<<20+512)), dir); err != nil {
		t.Error(err)
	}
	f, err := os.Open(filepath.Join(dir, "bomb"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, _, data, err := fdfs.NextData(f, 0, 64<<20); data || err != nil {
		t.Errorf("a file of zeros has data: %v, %v", data, err)
	}
}

// TestExtractContext unpacks tars of every format.
func TestExtractContext(t *testing.T) {
	for format, pack := range treetest.Compressors(t) {
		t.Run(format, func(t *testing.T) {
			dir := t.TempDir()
			data := pack(treetest.Tar(t, treetest.Entry{Name: "Dockerfile", Data: "FROM scratch"}, treetest.Entry{Name: "d/.wh.x", Data: "w", UID: 99}))
			r := bufio.NewReaderSize(bytes.NewReader(data), 1<<16)
			if ok, err := IsTar(r); !ok || err != nil {
				t.Fatalf("IsTar: %v, %v", ok, err)
			}
			if _, err := ExtractContext(context.Background(), r, dir); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join(dir, "Dockerfile"))
			if err != nil || string(got) != "FROM scratch" {
				t.Errorf("Dockerfile is %q, %v", got, err)
			}
			if _, err := os.Stat(filepath.Join(dir, "d/.wh.x")); err != nil {
				t.Error(err)
			}
		})
	}

	t.Run("cut", func(t *testing.T) {
		data := treetest.Tar(t, treetest.Entry{Name: "a", Data: strings.Repeat("a", 5000)})
		if _, err := ExtractContext(context.Background(), bytes.NewReader(data[:3000]), t.TempDir()); err == nil {
			t.Error("half a tar is accepted")
		}
	})
}

// TestIsTar: a Dockerfile is no tar, and a tar that begins with a long name is one.
func TestIsTar(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "short": "FROM scratch\n", "long": "FROM scratch\n" + strings.Repeat("RUN true\n", 10000), "B": "BZ", "zeros": strings.Repeat("\x00", 100),
	} {
		if ok, err := IsTar(bufio.NewReaderSize(strings.NewReader(text), 1<<16)); ok || err != nil {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
	}
	long := treetest.Tar(t, treetest.Entry{Name: strings.Repeat("long/", 40000) + "x", Data: "x"})
	if ok, err := IsTar(bufio.NewReaderSize(bytes.NewReader(long), 1<<16)); !ok || err != nil {
		t.Errorf("a tar that begins with a long name: %v, %v", ok, err)
	}
}
