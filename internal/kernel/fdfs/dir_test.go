package fdfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestDiskDir makes, changes, reads and removes entries of a directory of the kernel.
func TestDiskDir(t *testing.T) {
	d := OnDisk(tree(t))
	me := Owner{uint32(os.Getuid()), uint32(os.Getgid())}
	for name, e := range map[string]Entry{
		"plain": {Type: Directory},
		"dir":   {Type: Directory, Attributes: Attributes{Owner: &me, Mode: new(uint32(0o1750)), Mtime: &Time{Sec: 5, Nsec: 6}}},
		"link":  {Type: Symlink, Target: "/no/where", Attributes: Attributes{Owner: &me, Mode: new(uint32(0o600)), Mtime: &Time{Sec: -7}}},
		"fifo":  {Type: Fifo, Attributes: Attributes{Mode: new(uint32(0o640))}},
	} {
		if err := d.Make(name, e); err != nil {
			t.Fatal(err)
		}
		if err := d.Make(name, e); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s made again: %v", name, err)
		}
	}

	f, err := d.Create("file", 10)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write([]byte("text"))
	err = errors.Join(err, f.SetAttributes(Attributes{Owner: &me, Mode: new(uint32(0o4711)), Mtime: &Time{Sec: 8, Nsec: 9}}), f.Close())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Link("hard", d, "file"); err != nil {
		t.Fatal(err)
	}

	for name, want := range map[string]Stat{
		"plain": {Type: Directory, Mode: 0o700}, "dir": {Type: Directory, Mode: 0o1750, Mtime: Time{Sec: 5, Nsec: 6}},
		"link": {Type: Symlink, Mode: 0o777, Mtime: Time{Sec: -7}}, "fifo": {Type: Fifo, Mode: 0o640},
		"file": {Type: Regular, Mode: 0o4711, Mtime: Time{Sec: 8, Nsec: 9}}, "hard": {Type: Regular, Mode: 0o4711, Mtime: Time{Sec: 8, Nsec: 9}},
	} {
		st, err := d.Stat(name)
		if err != nil || st.Type != want.Type || st.Mode != want.Mode {
			t.Errorf("%s is a %s of mode %o, %v", name, st.Type, st.Mode, err)
		}
		if want.Mtime != (Time{}) && st.Mtime != want.Mtime {
			t.Errorf("%s has the time %v, want %v", name, st.Mtime, want.Mtime)
		}
	}
	if target, err := d.Readlink("link"); target != "/no/where" || err != nil {
		t.Errorf("the link says %q, %v", target, err)
	}

	for range 2 { // each call lists all
		names, err := d.Names()
		slices.Sort(names)
		if diff := cmp.Diff([]string{"dir", "fifo", "file", "hard", "link", "plain"}, names); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}

	for name, remove := range map[string]func(string) error{"plain": d.Rmdir, "dir": d.Rmdir, "link": d.Unlink, "fifo": d.Unlink, "hard": d.Unlink} {
		if err := remove(name); err != nil {
			t.Error(err)
		}
	}
	in, st, err := d.OpenFile("file")
	if err != nil || st.Nlink != 1 {
		t.Fatalf("%d names, %v", st.Nlink, err)
	}
	defer in.Close()
	if text, err := io.ReadAll(in); string(text) != "text" || err != nil {
		t.Errorf("the file holds %q, %v", text, err)
	}
}

// TestDiskDirErrors: a Dir of the kernel refuses entries that it cannot make, paths and directories
// that are not of the kernel.
func TestDiskDirErrors(t *testing.T) {
	d := OnDisk(tree(t, "f", "d/", "l -> d"))
	second := func(_ any, err error) error { return err }
	for name, tc := range map[string]struct{ got, want error }{
		"a regular file is created": {d.Make("new", Entry{Type: Regular}), unix.EINVAL},
		"no type":                   {d.Make("new", Entry{}), unix.EINVAL},
		"a path":                    {d.Make("d/x", Entry{Type: Directory}), unix.EINVAL},
		"up":                        {second(d.OpenDir("..")), unix.EINVAL},
		"a link is not followed":    {second(d.OpenDir("l")), unix.ENOTDIR},
		"a file is no directory":    {second(d.OpenDir("f")), unix.ENOTDIR},
		"link from elsewhere":       {d.Link("new", elsewhere{d}, "f"), unix.EXDEV},
		"attributes of nothing":     {d.SetAttributes("no", Attributes{Mtime: &Time{}}), fs.ErrNotExist},
		"xattrs of a file by name":  {d.SetAttributes("f", Attributes{Xattrs: map[string]string{"user.x": "y"}}), unix.ENOTDIR},
	} {
		if !errors.Is(tc.got, tc.want) {
			t.Errorf("%s: %v, want %v", name, tc.got, tc.want)
		}
	}
	if err := d.SetAttributes(".", Attributes{}); err != nil {
		t.Errorf("nothing to change: %v", err)
	}
}

// elsewhere is a Dir without a descriptor.
type elsewhere struct{ Dir }

// TestDescriptorOf: directories and files of the kernel have a descriptor, and a Dir that wraps
// another type has none.
func TestDescriptorOf(t *testing.T) {
	dir := tree(t, "f")
	d := OnDisk(dir)
	f, _, err := d.OpenFile("f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	if DescriptorOf(d) != dir || DescriptorOf(f) == nil {
		t.Error("a directory or file of the kernel has no descriptor")
	}
	if DescriptorOf(elsewhere{d}) != nil {
		t.Error("a Dir that implements only the interface has a descriptor")
	}
}

// TestXattrs sets extended attributes of a directory and of a new file.
func TestXattrs(t *testing.T) {
	dir := tree(t, "d/")
	if err := Setxattr(dir, "user.x", []byte("y")); err != nil {
		t.Skip("the file system keeps no user attributes:", err)
	}

	d := OnDisk(dir)
	a := Attributes{Xattrs: map[string]string{"user.kind": "blue", "user.x": ""}}
	f, err := d.Create("f", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.SetAttributes(a), f.Close(), d.SetAttributes("d", a), d.SetAttributes(".", a)); err != nil {
		t.Fatal(err)
	}

	for _, name := range []string{"f", "d", "."} {
		in, err := os.Open(filepath.Join(dir.Name(), name))
		if err != nil {
			t.Fatal(err)
		}
		kind, err := Getxattr(in, "user.kind")
		if string(kind) != "blue" || err != nil {
			t.Errorf("%s: user.kind is %q, %v", name, kind, err)
		}
		in.Close()
	}
}

// TestSparseWriter: zeros become holes, and the content is the same.
func TestSparseWriter(t *testing.T) {
	data, zeros := bytes.Repeat([]byte("data"), minHole/4), make([]byte, 3*minHole)
	for _, tc := range []struct {
		name   string
		pieces [][]byte
		holes  int64
	}{
		{"empty", nil, 0},
		{"no hole", [][]byte{data, data}, 0},
		{"short zeros", [][]byte{zeros[:minHole-1], data}, 0},
		{"at the start", [][]byte{zeros, data, data}, 3 * minHole},
		{"in the middle", [][]byte{data, zeros, data}, 3 * minHole},
		{"at the end", [][]byte{data, zeros, zeros}, 6 * minHole},
		{"almost zeros", [][]byte{append(slices.Clip(zeros), 1)}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := tree(t)
			f, err := OnDisk(dir).Create("f", 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()

			w := NewSparseWriter(f)
			for _, p := range tc.pieces {
				if n, err := w.Write(p); n != len(p) || err != nil {
					t.Fatalf("wrote %d of %d bytes: %v", n, len(p), err)
				}
			}
			if err := w.Finish(); err != nil || w.Zeros() != tc.holes {
				t.Errorf("%d bytes of holes, want %d (%v)", w.Zeros(), tc.holes, err)
			}
			got, err := os.ReadFile(filepath.Join(dir.Name(), "f"))
			if want := bytes.Join(tc.pieces, nil); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, want %d (%v)", len(got), len(want), err)
			}
		})
	}
}
