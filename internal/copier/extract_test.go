package copier

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
)

// entry is one entry of a tar made for a test.
type entry struct {
	name     string
	typ      byte // 0: regular
	mode     int64
	data     string
	link     string
	uid, gid int
	pax      map[string]string
}

func makeTar(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{
			Name: e.name, Typeflag: e.typ, Mode: e.mode, Size: int64(len(e.data)), Linkname: e.link, Uid: e.uid, Gid: e.gid,
			ModTime: time.Unix(1, 0), PAXRecords: e.pax,
		}

		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.data); err != nil {
			t.Fatal(err)
		}
	}

	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	return b.Bytes()
}

var plainTar = []entry{
	{name: ".", typ: tar.TypeDir, mode: 0o700},
	{name: "./a", mode: 0o4750, data: "A"},
	{name: "./h", typ: tar.TypeLink, link: "./a"},
	{name: "./l", typ: tar.TypeSymlink, link: "a"},
	{name: "./p", typ: tar.TypeFifo, mode: 0o640},
	{name: "./dev", typ: tar.TypeChar},
	{name: "./sub", typ: tar.TypeDir, mode: 0o555},
	{name: "./sub/b", data: "B", uid: 77, gid: 88},
	{name: "/abs/implied", data: "I", uid: 5},
}

var compressors = map[string]func(t *testing.T, data []byte) []byte{
	"tar": func(_ *testing.T, data []byte) []byte { return data },
	"gz":  func(t *testing.T, data []byte) []byte { return compress(t, data, gzip.NewWriter) },
	"xz": func(t *testing.T, data []byte) []byte {
		return compress(t, data, func(w io.Writer) io.WriteCloser {
			x, err := xz.NewWriter(w)
			if err != nil {
				t.Fatal(err)
			}
			return x
		})
	},
	"zst": func(t *testing.T, data []byte) []byte {
		return compress(t, data, func(w io.Writer) io.WriteCloser {
			z, err := zstd.NewWriter(w)
			if err != nil {
				t.Fatal(err)
			}
			return z
		})
	},
}

func compress[W io.WriteCloser](t *testing.T, data []byte, open func(io.Writer) W) []byte {
	t.Helper()
	var b bytes.Buffer
	w := open(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAdd(t *testing.T) {
	nstest.Need(t)
	yes, no := true, false
	unpacked := []string{
		"x directory 0755 0:0", "x/a regular 4750 0:0 A =x/a", "x/abs directory 0755 0:0", "x/abs/implied regular 0644 5:0 I",
		"x/h regular 4750 0:0 A =x/a", "x/l -> a 0:0", "x/p fifo 0640 0:0", "x/sub directory 0555 0:0", "x/sub/b regular 0644 77:88 B",
	}

	for format, pack := range compressors {
		t.Run(format, func(t *testing.T) {
			src, root := t.TempDir(), t.TempDir()
			writeFile(t, src, "any.name", pack(t, makeTar(t, plainTar...)))
			if err := do(t, src, nil, root, Spec{Sources: []string{"any.name"}, Dest: "/x", Add: true}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(unpacked, list(t, root)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if st, err := os.Lstat(filepath.Join(root, "x/sub")); err != nil || st.ModTime().Unix() != 1 {
				t.Errorf("time of the directory: %v, %v", st.ModTime(), err)
			}
		})
	}

	src := t.TempDir()
	writeFile(t, src, "t", makeTar(t, entry{name: "d/a", data: "A", uid: 3}))
	writeFile(t, src, "single.gz", compressors["gz"](t, []byte("one\n")))
	writeFile(t, src, "zeros", make([]byte, 10240))
	for _, tc := range []struct {
		name string
		spec Spec
		root []string
		want []string
	}{
		{name: "chown", spec: Spec{Sources: []string{"t"}, Chown: &Owner{8, 9}, Add: true}, want: []string{
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
			root := build(t, t.TempDir(), tc.root...)
			tc.spec.Dest = "/x/"
			if err := do(t, src, nil, root, tc.spec); err != nil {
				t.Fatal(err)
			}
			got := list(t, root)
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

func writeFile(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Tars that want out. Each is unpacked into DIR/in; DIR/out must stay as it is.
func TestHostileTar(t *testing.T) {
	nstest.Need(t)
	for _, tc := range []struct {
		name    string
		entries []entry
		err     string // empty: it is unpacked inside
	}{
		{"dot dot", []entry{{name: "../out/canary", data: "x"}}, "leads out"},
		{"dot dot behind", []entry{{name: "a/../../out/canary", data: "x"}}, "leads out"},
		{"absolute dot dot", []entry{{name: "/../out/canary", data: "x"}}, "leads out"},
		{"absolute", []entry{{name: "OUT/canary", data: "x"}}, ""},
		{"through a relative link", []entry{{name: "l", typ: tar.TypeSymlink, link: "../out"}, {name: "l/canary", data: "x"}}, ""},
		{"through an absolute link", []entry{{name: "l", typ: tar.TypeSymlink, link: "OUT"}, {name: "l/canary", data: "x"}}, ""},
		{"through a link in a link", []entry{
			{name: "a", typ: tar.TypeSymlink, link: ".."}, {name: "b", typ: tar.TypeSymlink, link: "a/out"}, {name: "b/canary", data: "x"},
		}, ""},
		{"onto a link", []entry{{name: "l", typ: tar.TypeSymlink, link: "../out/canary"}, {name: "l", data: "x"}}, ""},
		{"metadata of a link", []entry{{name: "l", typ: tar.TypeSymlink, link: "../out"}, {name: "l", typ: tar.TypeDir, mode: 0o777}}, ""},
		{"directory becomes a link", []entry{
			{name: "d", typ: tar.TypeDir, mode: 0o777}, {name: "d/x", data: "x"}, {name: "d", typ: tar.TypeSymlink, link: "../out"}, {name: "d/canary", data: "x"},
		}, ""},
		{"hard link out", []entry{{name: "h", typ: tar.TypeLink, link: "../out/canary"}, {name: "h", data: "x"}}, "leads out"},
		{"absolute hard link", []entry{{name: "h", typ: tar.TypeLink, link: "OUT/canary"}}, "hard link"},
		{"hard link through a link", []entry{{name: "l", typ: tar.TypeSymlink, link: "../out"}, {name: "h", typ: tar.TypeLink, link: "l/canary"}}, "hard link"},
		{"hard link to a link", []entry{
			{name: "l", typ: tar.TypeSymlink, link: "../out/canary"}, {name: "h", typ: tar.TypeLink, link: "l"}, {name: "h", mode: 0o777, data: "x"},
		}, ""},
		{"hard link to itself", []entry{{name: "h", data: "h"}, {name: "h", typ: tar.TypeLink, link: "h"}}, ""},
		{"link loop", []entry{{name: "l", typ: tar.TypeSymlink, link: "l"}, {name: "l/x", data: "x"}}, "levels"},
		{"whiteout", []entry{{name: "d/.wh.x", data: ""}}, ".wh.x"},
		{"below a whiteout's name", []entry{{name: ".wh.d/x", data: ""}}, ".wh.d"},
		{"unknown type", []entry{{name: "x", typ: 'Z'}}, "type"},
		{"root as a link", []entry{{name: ".", typ: tar.TypeSymlink, link: "../out"}, {name: "canary", data: "x"}}, ""},
		{"foreign attributes", []entry{{name: "x", data: "x", pax: map[string]string{
			"SCHILY.xattr.user.overlay.opaque": "y", "SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.x": "y",
		}}}, ""},
		{"owner that is none", []entry{{name: "x", uid: -1}}, "-1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			out := build(t, filepath.Join(dir, "out"), "f canary 600 canary")
			if err := os.Chmod(out, 0o750); err != nil {
				t.Fatal(err)
			}
			in := filepath.Join(dir, "in")
			if err := os.Mkdir(in, 0o755); err != nil {
				t.Fatal(err)
			}
			entries := append([]entry{}, tc.entries...)
			for i := range entries {
				entries[i].name = strings.Replace(entries[i].name, "OUT", out, 1)
				entries[i].link = strings.Replace(entries[i].link, "OUT", out, 1)
			}

			root := openDir(t, in)
			x := newExtractor(context.Background(), fdfs.OnDisk(root))
			x.owned, x.strict = true, true
			err := x.extract(bytes.NewReader(makeTar(t, entries...)))
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			want := []string{"canary regular 0600 0:0 canary"}
			if diff := cmp.Diff(want, list(t, out)); diff != "" {
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

// newBomb returns a tar of one file of size zeros, which has no end.
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

func TestExtractContext(t *testing.T) {
	for format, pack := range compressors {
		t.Run(format, func(t *testing.T) {
			dir := t.TempDir()
			data := pack(t, makeTar(t, entry{name: "Dockerfile", data: "FROM scratch"}, entry{name: "d/.wh.x", data: "w", uid: 99}))
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
		data := makeTar(t, entry{name: "a", data: strings.Repeat("a", 5000)})
		if _, err := ExtractContext(context.Background(), bytes.NewReader(data[:3000]), t.TempDir()); err == nil {
			t.Error("half a tar is accepted")
		}
	})
}

func TestIsTar(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "short": "FROM scratch\n", "long": "FROM scratch\n" + strings.Repeat("RUN true\n", 10000), "B": "BZ", "zeros": strings.Repeat("\x00", 100),
	} {
		if ok, err := IsTar(bufio.NewReaderSize(strings.NewReader(text), 1<<16)); ok || err != nil {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
	}
	long := makeTar(t, entry{name: strings.Repeat("long/", 40000) + "x", data: "x"})
	if ok, err := IsTar(bufio.NewReaderSize(bytes.NewReader(long), 1<<16)); !ok || err != nil {
		t.Errorf("a tar that begins with a long name: %v, %v", ok, err)
	}
}

// Whatever a tar says, nothing is made outside, and what is unpacked can be selected.
func FuzzExtractContext(f *testing.F) {
	f.Add(makeTar(f, plainTar...))
	f.Add(makeTar(f, entry{name: "l", typ: tar.TypeSymlink, link: "../out"}, entry{name: "l/canary", data: "x"}))
	f.Add(makeTar(f, entry{name: "h", typ: tar.TypeLink, link: "l/../../out/canary"}))
	f.Add(makeTar(f, entry{name: strings.Repeat("d/", 200) + "x", data: "x", pax: map[string]string{"SCHILY.xattr.user.x": "y"}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		in := filepath.Join(dir, "in")
		if err := os.Mkdir(in, 0o755); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()

		_, err := ExtractContext(ctx, bytes.NewReader(data), in)
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
