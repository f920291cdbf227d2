package commit

import (
	"archive/tar"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func ok(tb testing.TB, errs ...error) {
	tb.Helper()
	if err := errors.Join(errs...); err != nil {
		tb.Fatal(err)
	}
}

// write writes the tar of root and checks the properties of any tar: DiffID and Size describe the
// bytes, and the tar-split record equals the record of a parser and rebuilds the bytes.
func write(t *testing.T, root string, o TarOptions) ([]byte, Tar) {
	t.Helper()
	dir, err := os.Open(root)
	ok(t, err)
	t.Cleanup(func() { ok(t, dir.Close()) })
	var out, split bytes.Buffer
	o.TarSplit = &split
	res, err := WriteTar(t.Context(), dir, &out, o)
	ok(t, err)
	if want := digest.FromBytes(out.Bytes()); res.DiffID != want {
		t.Errorf("DiffID %s, but the bytes have %s", res.DiffID, want)
	}
	if res.Size != int64(out.Len()) {
		t.Errorf("Size %d, but %d bytes were written", res.Size, out.Len())
	}
	if got := len(entriesOf(t, out.Bytes())); res.Entries != got {
		t.Errorf("Entries %d, but the tar has %d", res.Entries, got)
	}
	var parsed bytes.Buffer
	tee, done, err := asm.NewInputTarStreamWithDone(bytes.NewReader(out.Bytes()), storage.NewJSONPacker(&parsed), nil)
	ok(t, err)
	_, err = io.Copy(io.Discard, tee)
	ok(t, err, <-done)
	if diff := cmp.Diff(parsed.String(), split.String()); diff != "" {
		t.Errorf("tar-split record differs from what parsing the tar gives (-parsed +recorded):\n%s", diff)
	}
	var rebuilt bytes.Buffer
	ok(t, asm.WriteOutputTarStream(storage.NewPathFileGetter(root), storage.NewJSONUnpacker(&split), &rebuilt))
	if !bytes.Equal(rebuilt.Bytes(), out.Bytes()) {
		t.Error("tar-split rebuilds other bytes")
	}

	return out.Bytes(), res
}

func entriesOf(t *testing.T, data []byte) []*tar.Header {
	t.Helper()
	var all []*tar.Header
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		ok(t, err)
		all = append(all, h)
	}
}

func names(hs []*tar.Header) []string {
	var all []string
	for _, h := range hs {
		all = append(all, h.Name)
	}
	return all
}

func TestEveryKindOfFile(t *testing.T) {
	nstest.Need(t)
	root := t.TempDir()
	everything(t, root)
	ok(t, os.Chmod(root, 0o711|os.ModeSticky))
	data, res := write(t, root, TarOptions{})
	if want := 0o711 | os.ModeSticky; res.RootMode != want {
		t.Errorf("RootMode %v, want %v", res.RootMode, want)
	}
	const when = 1_700_000_000
	long := longDir + "/" + longDir
	want := []entry{
		{Name: "a", Type: "5", Mode: 0o750, UID: 1000, GID: 65534, MTime: when},
		{Name: "a/file", Type: "0", Mode: 0o4755, UID: 65534, GID: 65534, Size: 5, MTime: when, Sum: sum("hello")},
		{Name: "a/hard", Type: "1", Link: "a/file", Mode: 0o4755, UID: 65534, GID: 65534, MTime: when},
		{Name: "a/link", Type: "2", Link: "file", Mode: 0o777, UID: 1, GID: 2, MTime: when},
		{Name: "a/link2", Type: "1", Link: "a/link", Mode: 0o777, UID: 1, GID: 2, MTime: when},
		{Name: "block", Type: "0", Mode: 0o600, Size: blockSize, MTime: when, Sum: sum(strings.Repeat("b", blockSize))},
		{Name: "cap", Type: "0", Mode: 0o755, Size: 1, MTime: when, Sum: sum("c"), Xattrs: map[string]string{"security.capability": hex.EncodeToString([]byte(netRaw))}},
		{Name: longDir, Type: "5", Mode: 0o700, MTime: when},
		{Name: long, Type: "5", Mode: 0o700, MTime: when},
		{Name: long + "/" + longFile, Type: "0", Mode: 0o600, Size: 4, MTime: when, Sum: sum("long")},
		{Name: "empty", Type: "0", MTime: -86400, Sum: sum("")},
		{Name: "fifo", Type: "6", Mode: 0o640, MTime: when},
		{Name: "longlink", Type: "2", Link: strings.Repeat("t", 300), Mode: 0o777, MTime: when},
		{Name: "new\nline\\ \t", Type: "0", Mode: 0o600, MTime: when, Sum: sum("")},
		{Name: "raw-\xff\xfe", Type: "0", Mode: 0o600, Size: 3, MTime: 10_000_000_000, Sum: sum("raw")},
		{Name: "setgid", Type: "5", Mode: 0o2755, MTime: when},
		{Name: "tmp", Type: "5", Mode: 0o1777, MTime: when, Xattrs: map[string]string{"user.dir": "64"}},
		{Name: "utf8-é", Type: "0", Mode: 0o600, MTime: when, Sum: sum("")},
		{Name: "xattr", Type: "0", Mode: 0o600, MTime: when, Sum: sum(""), Xattrs: map[string]string{"user.a": "", "user.b": "000a3dff"}},
	}

	if diff := cmp.Diff(want, listed(t, data)); diff != "" {
		t.Error(diff)
	}
}

// TestUnpackedByTar unpacks a layer with GNU tar. The copy must give the same tar.
func TestUnpackedByTar(t *testing.T) {
	nstest.Need(t)
	if out, err := exec.Command("tar", "--version").Output(); err != nil || !bytes.Contains(out, []byte("GNU tar")) {
		t.Skip("this test needs GNU tar: ", err)
	}
	root, other := t.TempDir(), t.TempDir()
	everything(t, root)
	data, res := write(t, root, TarOptions{})
	cmd := exec.Command("tar", "-x", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", other)
	cmd.Stdin = bytes.NewReader(data)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	again, res2 := write(t, other, TarOptions{})
	if res2.DiffID != res.DiffID {
		t.Error(cmp.Diff(listed(t, data), listed(t, again)))
	}
}

// TestDeterministic creates the same files twice, in different orders and on different inodes.
func TestDeterministic(t *testing.T) {
	files := []string{"b", "a/z", "a.d", "a/b/c", "a-b", "Z", "a/b.c"}
	one, two := t.TempDir(), t.TempDir()
	for i := range files {
		for dir, name := range map[string]string{one: files[i], two: files[len(files)-1-i]} {
			path := filepath.Join(dir, name)
			ok(t, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(name), 0o644))
		}
	}

	epoch := time.Unix(12345, 678)
	data, first := write(t, one, TarOptions{Epoch: &epoch})
	_, second := write(t, two, TarOptions{Epoch: &epoch})
	if first != second {
		t.Errorf("%+v and %+v", first, second)
	}
	want := []string{"Z", "a/", "a/b/", "a/b/c", "a/b.c", "a/z", "a-b", "a.d", "b"}
	if diff := cmp.Diff(want, names(entriesOf(t, data))); diff != "" {
		t.Errorf("order: %s", diff)
	}
	for _, h := range entriesOf(t, data) {
		if h.ModTime.Unix() != 12345 {
			t.Errorf("%s has time %v", h.Name, h.ModTime)
		}
	}

	if _, third := write(t, one, TarOptions{Epoch: &epoch}); third != first {
		t.Error("the second pass over one directory differs")
	}
	if _, kept := write(t, one, TarOptions{Epoch: &epoch, Clamp: true}); kept.DiffID != first.DiffID {
		t.Error("files newer than the epoch keep their time")
	}
}

// TestOverlay changes files in an overlay mount and writes the tar of the upper directory.
func TestOverlay(t *testing.T) {
	nstest.Need(t)
	base := t.TempDir()
	in := func(name string) string { return filepath.Join(base, name) }
	for _, d := range []string{"lower/etc/replaced", "lower/etc/kept", "upper", "work", "merged"} {
		ok(t, os.MkdirAll(in(d), 0o755))
	}
	for _, f := range []string{"gone", "gone2", "changed", "replaced/old", "kept/deep", "kept/file"} {
		ok(t, os.WriteFile(in("lower/etc/"+f), []byte("old"), 0o644))
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,userxattr", in("lower"), in("upper"), in("work"))
	if err := unix.Mount("overlay", in("merged"), "overlay", 0, options); err != nil {
		t.Skip("no overlay mount in a user namespace here: ", err)
	}
	m := in("merged/etc") + "/"
	ok(t,
		os.Remove(m+"gone"), os.Remove(m+"gone2"), os.WriteFile(m+"changed", []byte("new"), 0o600), os.RemoveAll(m+"replaced"),
		os.Mkdir(m+"replaced", 0o700), os.MkdirAll(m+"fresh/below", 0o700), os.WriteFile(m+"replaced/new", nil, 0o600), os.Remove(m+"kept/file"),
		os.WriteFile(in("merged/file"), nil, 0o600), os.Link(in("merged/file"), in("merged/hard")), unix.Unmount(in("merged"), 0),
	)

	data, _ := write(t, in("upper"), TarOptions{})
	want := []string{
		"etc/", "etc/changed", "etc/fresh/", "etc/fresh/below/", "etc/.wh.gone", "etc/.wh.gone2", "etc/kept/", "etc/kept/.wh.file", "etc/replaced/",
		"etc/replaced/.wh..wh..opq", "etc/replaced/new", "file", "hard",
	}

	if diff := cmp.Diff(want, names(entriesOf(t, data))); diff != "" {
		t.Error(diff)
	}
	for _, h := range entriesOf(t, data) {
		if strings.Contains(h.Name, "/.wh.") && (h.Typeflag != tar.TypeReg || h.Size != 0 || h.Mode != 0 || h.Uid != 0) {
			t.Errorf("%s: type %c, size %d, mode %o, uid %d", h.Name, h.Typeflag, h.Size, h.Mode, h.Uid)
		}
		if len(h.PAXRecords) != 0 {
			t.Errorf("%s: PAX records %v", h.Name, h.PAXRecords)
		}
	}
}

func TestOverlayMarksByHand(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(root string) error
		want []string
	}{
		{
			"whiteouts that are files",
			func(root string) error {
				return errors.Join(
					unix.Setxattr(root, "user.overlay.opaque", []byte("x"), 0),
					empty(root, "gone", "user.overlay.whiteout"), empty(root, "empty", "user.else"), filled(root, "full", "user.overlay.whiteout"),
				)
			},
			[]string{"empty", "full", ".wh.gone"},
		},
		{
			"file with the mark of a whiteout in an ordinary directory",
			func(root string) error { return empty(root, "file", "user.overlay.whiteout") },
			[]string{"file"},
		},
		{
			"opaque root",
			func(root string) error {
				return errors.Join(unix.Setxattr(root, "user.overlay.opaque", []byte("y"), 0), empty(root, "file", "user.a"))
			},
			[]string{".wh..wh..opq", "file"},
		},
		{
			"escaped marks of a mount inside",
			func(root string) error {
				return errors.Join(
					unix.Setxattr(root, "user.overlay.overlay.opaque", []byte("x"), 0), empty(root, "file", "user.overlay.overlay.whiteout"),
				)
			},
			[]string{"file"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			if err := tc.make(root); err != nil {
				t.Skip("no user.* attributes on this file system: ", err)
			}
			data, _ := write(t, root, TarOptions{})
			hs := entriesOf(t, data)
			if diff := cmp.Diff(tc.want, names(hs)); diff != "" {
				t.Error(diff)
			}
			for _, h := range hs {
				for k := range h.PAXRecords {
					if strings.Contains(k, "overlay") {
						t.Errorf("%s keeps %s", h.Name, k)
					}
				}
			}
		})
	}
}

func empty(root, name, xattr string) error {
	path := filepath.Join(root, name)
	return errors.Join(os.WriteFile(path, nil, 0o600), unix.Setxattr(path, xattr, nil, 0))
}

func filled(root, name, xattr string) error {
	path := filepath.Join(root, name)
	return errors.Join(os.WriteFile(path, []byte("x"), 0o600), unix.Setxattr(path, xattr, nil, 0))
}

// TestMerged checks that attributes with names of overlayfs mean nothing in a mounted overlay,
// where a RUN can set them.
func TestMerged(t *testing.T) {
	root := t.TempDir()
	err := errors.Join(
		unix.Setxattr(root, "user.overlay.opaque", []byte("y"), 0), empty(root, "file", "user.overlay.whiteout"),
		empty(root, "redirected", "user.overlay.redirect"),
	)
	if err != nil {
		t.Skip("no user.* attributes on this file system: ", err)
	}
	data, _ := write(t, root, TarOptions{Merged: true})
	if diff := cmp.Diff([]string{"file", "redirected"}, names(entriesOf(t, data))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRefused(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(root string) error
		path string
	}{
		{"file like a whiteout", func(root string) error {
			return errors.Join(os.Mkdir(root+"/a", 0o700), os.WriteFile(root+"/a/.wh.x", nil, 0o600))
		}, "a/.wh.x"},
		{"directory like a whiteout", func(root string) error { return os.Mkdir(root+"/.wh.dir", 0o700) }, ".wh.dir"},
		{"link like an opaque mark", func(root string) error { return os.Symlink("x", root+"/.wh..wh..opq") }, ".wh..wh..opq"},
		{"redirect", func(root string) error {
			return errors.Join(os.Mkdir(root+"/d", 0o700), unix.Setxattr(root+"/d", "user.overlay.redirect", []byte("e"), 0))
		}, "d/"},
		{"metacopy", func(root string) error { return empty(root, "f", "user.overlay.metacopy") }, "f"},
		{"path too long", func(root string) error {
			var errs []error
			fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			errs = append(errs, err)
			for range 17 {
				errs = append(errs, unix.Mkdirat(fd, longFile, 0o700))
				next, err := unix.Openat(fd, longFile, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
				errs = append(errs, err, unix.Close(fd))
				fd = next
			}
			return errors.Join(append(errs, unix.Close(fd))...)
		}, strings.Repeat(longFile+"/", 15) + longFile},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			ok(t, tc.make(root))
			dir, err := os.Open(root)
			ok(t, err)
			t.Cleanup(func() { ok(t, dir.Close()) })
			_, err = WriteTar(t.Context(), dir, nil, TarOptions{})
			var refused *RefusedError
			if !errors.As(err, &refused) {
				t.Fatalf("got %v, want a RefusedError", err)
			}
			if refused.Path != tc.path && (tc.name != "path too long" || !strings.HasPrefix(refused.Path, tc.path)) {
				t.Errorf("names %q, want %q", refused.Path, tc.path)
			}
			if !strings.Contains(err.Error(), refused.Path) {
				t.Errorf("%q does not name the path", err)
			}
		})
	}
}

func TestChangedWhileRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	ok(t, os.WriteFile(path, bytes.Repeat([]byte("x"), 1000), 0o600))
	for _, tc := range []struct {
		name string
		size int64
		want error
	}{{"same", 1000, nil}, {"grew", 999, ErrChanged}, {"shrank", 1001, ErrChanged}, {"shrank a lot", 10 * chunkSize, ErrChanged}} {
		t.Run(tc.name, func(t *testing.T) {
			f, err := os.Open(path)
			ok(t, err)
			t.Cleanup(func() { ok(t, f.Close()) })
			w := tarrer{out: newStream(nil)}
			if err := w.payload(t.Context(), fdfs.FDOf(f).Read, tc.size); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}

	t.Run("another kind of file", func(t *testing.T) {
		root := t.TempDir()
		ok(t, unix.Mkfifo(filepath.Join(root, "p"), 0o600))
		dir, err := os.Open(root)
		ok(t, err)
		t.Cleanup(func() { ok(t, dir.Close()) })
		d := directory{fd: fdfs.FDOf(dir)}
		if _, _, err := d.open("p", "p", fdfs.Regular); !errors.Is(err, ErrChanged) {
			t.Errorf("got %v", err)
		}
	})
}

// TestChunkBorders writes files that end near the ends of the chunks of the stream.
func TestChunkBorders(t *testing.T) {
	for _, size := range []int{firstChunk - blockSize, firstChunk + chunkSize - 2*blockSize, firstChunk + chunkSize, chunkSize - blockSize - 1, chunkSize - blockSize, chunkSize, 2*chunkSize - blockSize, 3*chunkSize + 7} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			root := t.TempDir()
			ok(t, os.WriteFile(filepath.Join(root, "a"), bytes.Repeat([]byte("0123456"), size/7+1)[:size], 0o600))
			ok(t, os.WriteFile(filepath.Join(root, "b"), []byte("after"), 0o600))
			write(t, root, TarOptions{})
		})
	}
}

func TestEmptyDirectory(t *testing.T) {
	data, res := write(t, t.TempDir(), TarOptions{})
	if res.Entries != 0 || len(data) != 1024 {
		t.Errorf("%d entries, %d bytes", res.Entries, len(data))
	}
}

// TestLinkFromOutside writes a file whose second name is outside of the directory.
func TestLinkFromOutside(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	ok(t, os.WriteFile(root+"/f", []byte("x"), 0o600), os.Link(root+"/f", outside+"/f"))
	data, _ := write(t, root, TarOptions{})
	if hs := entriesOf(t, data); len(hs) != 1 || hs[0].Typeflag != tar.TypeReg || hs[0].Size != 1 {
		t.Errorf("%+v", hs)
	}
}

// TestMemory writes a sparse file of 1 GiB with less than 60 MB of resident memory.
func TestMemory(t *testing.T) {
	if testing.Short() || raceDetector {
		t.Skip("hashing 1 GiB takes a second or more; the race detector takes memory of its own")
	}
	root := t.TempDir()
	ok(t, os.WriteFile(root+"/f", nil, 0o600), os.Truncate(root+"/f", 1<<30))
	debug.FreeOSMemory()                                                          // the garbage of other tests
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // resets VmHWM, proc(5)
		t.Skip("the peak of resident memory cannot be reset: ", err)
	}
	dir, err := os.Open(root)
	ok(t, err)
	t.Cleanup(func() { ok(t, dir.Close()) })
	_, err = WriteTar(t.Context(), dir, nil, TarOptions{TarSplit: io.Discard})
	ok(t, err)
	status, err := os.ReadFile("/proc/self/status")
	ok(t, err)
	_, after, _ := bytes.Cut(status, []byte("VmHWM:"))
	var kib int
	_, err = fmt.Sscanf(string(after), "%d kB", &kib)
	ok(t, err)
	if kib > 60_000 {
		t.Errorf("peak %d KiB", kib)
	}
	t.Logf("peak %d KiB", kib)
}

// TestDeep writes the largest number of directory levels that a path can have.
func TestDeep(t *testing.T) {
	root := t.TempDir()
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	ok(t, err)
	for range (maxPath - 1) / 2 {
		ok(t, unix.Mkdirat(fd, "d", 0o700))
		next, err := unix.Openat(fd, "d", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		ok(t, err, unix.Close(fd))
		fd = next
	}

	ok(t, unix.Close(fd))
	dir, err := os.Open(root)
	ok(t, err)
	t.Cleanup(func() { ok(t, dir.Close()) })
	res, err := WriteTar(t.Context(), dir, nil, TarOptions{})
	if errors.Is(err, unix.EMFILE) {
		t.Skip("too few descriptors are allowed here: ", err)
	}
	if err != nil || res.Entries != (maxPath-1)/2 {
		t.Errorf("%d entries, %v", res.Entries, err)
	}
}

// TestDevice checks that device nodes are left out of a merged directory and refused in an upper
// directory.
func TestDevice(t *testing.T) {
	nstest.Need(t)
	root := t.TempDir()
	ok(t, os.Mkdir(root+"/dev", 0o755), os.WriteFile(root+"/dev/file", nil, 0o644))
	for _, name := range []string{"/dev/null", "/dev/zero"} { // nobody in a user namespace can make a node, but show one
		place := root + name
		ok(t, unix.Mkfifo(place, 0o644), unix.Mount(name, place, "", unix.MS_BIND, ""))
		t.Cleanup(func() { ok(t, unix.Unmount(place, unix.MNT_DETACH)) })
	}

	dir, err := os.Open(root)
	ok(t, err)
	t.Cleanup(func() { ok(t, dir.Close()) })

	var buf bytes.Buffer
	res, err := WriteTar(t.Context(), dir, &buf, TarOptions{Merged: true})
	ok(t, err)
	if res.Devices != 2 || res.Device != "dev/null" {
		t.Errorf("%d devices, %s the first", res.Devices, res.Device)
	}
	for _, h := range entriesOf(t, buf.Bytes()) {
		if h.Name != "dev/" && h.Name != "dev/file" {
			t.Errorf("entry %s of type %q", h.Name, h.Typeflag)
		}
	}

	var refused *RefusedError
	if _, err := WriteTar(t.Context(), dir, nil, TarOptions{}); !errors.As(err, &refused) || refused.Path != "dev/null" {
		t.Errorf("%v, want a refusal of dev/null", err)
	}
}

// TestOwner checks that a file of an unmapped owner is refused.
func TestOwner(t *testing.T) {
	root := t.TempDir()
	ok(t, os.MkdirAll(root+"/d/e", 0o755))
	dir, err := os.Open(root)
	ok(t, err)
	t.Cleanup(func() { ok(t, dir.Close()) })
	_, err = WriteTar(t.Context(), dir, nil, TarOptions{Owner: func(uid, gid uint32) error {
		if uid == uint32(os.Getuid()) && gid == uint32(os.Getgid()) {
			return errors.New("why")
		}
		return nil
	}})

	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Path != "d/" || !strings.Contains(err.Error(), "why") {
		t.Errorf("%v, want a refusal of d/", err)
	}
	_, err = WriteTar(t.Context(), dir, nil, TarOptions{Owner: func(uint32, uint32) error { return nil }})
	ok(t, err)
}
