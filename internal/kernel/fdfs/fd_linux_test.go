package fdfs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestFDDirents(t *testing.T) {
	dir := tree(t, "f", "d/", "l -> f", "Z", strings.Repeat("x", 255))
	if err := unix.Mkfifo(filepath.Join(dir.Name(), "p"), 0o600); err != nil {
		t.Fatal(err)
	}

	want := []Dirent{
		{"Z", Regular},
		{"d", Directory},
		{"f", Regular},
		{"l", Symlink},
		{"p", Fifo},
		{strings.Repeat("x", 255), Regular},
	}
	for _, size := range []int{300, 32 << 10} { // bytes: one entry a call, and all of them
		got, err := FDOf(dir).Dirents(make([]byte, size))
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range got {
			if e.Type == Unknown { // the file system stores no types
				got[i].Type = want[i].Type
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("buffer of %d bytes (-want +got):\n%s", size, diff)
		}
	}
}

func TestFDOpen(t *testing.T) {
	dir := tree(t, "f", "d/", "l -> f")
	if err := unix.Mkfifo(filepath.Join(dir.Name(), "p"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := FDOf(dir)

	for name, want := range map[string]Type{"f": Regular, "d": Directory, "p": Fifo} {
		fd, st, err := d.Open(name)
		if err != nil || st.Type != want {
			t.Errorf("%s is a %s (%v), want a %s", name, st.Type, err, want)
			continue
		}
		if again, err := d.Stat(name); err != nil || !again.SameInode(st) {
			t.Errorf("Stat of %s: %+v, %v", name, again, err)
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("the descriptor of %s reaches children: %v", name, err)
		}
		fd.Close()
	}

	if _, _, err := d.Open("l"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("opening a symbolic link: %v, want ELOOP", err)
	}
	if _, _, err := d.Open("none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("opening a missing file: %v", err)
	}
	if target, err := d.Readlink("l"); err != nil || target != "f" {
		t.Errorf("the link leads to %q, %v", target, err)
	}
}

func TestFDRead(t *testing.T) {
	dir := tree(t, "hello")
	fd, _, err := FDOf(dir).Open("hello")
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()

	buf := make([]byte, 10)
	n, err := fd.Pread(buf, 2)
	if err != nil || string(buf[:n]) != "llo" {
		t.Errorf("Pread gives %q, %v", buf[:n], err)
	}
	n, err = fd.Read(buf)
	if err != nil || string(buf[:n]) != "hello" {
		t.Errorf("Read gives %q, %v", buf[:n], err)
	}
	n, err = fd.Read(buf)
	if err != nil || n != 0 {
		t.Errorf("Read at the end gives %d bytes, %v", n, err)
	}
}

func TestFDXattrs(t *testing.T) {
	dir := tree(t, "f")
	fd, _, err := FDOf(dir).Open("f")
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()

	if names, err := fd.Xattrs(); err != nil || len(names) > 1 { // security.selinux may be there
		t.Errorf("a new file has %q, %v", names, err)
	}
	long := strings.Repeat("v", 2000)
	for name, value := range map[string]string{"user.a": long, "user.empty": ""} {
		if err := unix.Setxattr(filepath.Join(dir.Name(), "f"), name, []byte(value), 0); err != nil {
			t.Skip("no user.* attributes on this file system: ", err)
		}
	}

	names, err := fd.Xattrs()
	if err != nil || len(names) < 2 {
		t.Errorf("got %q, %v", names, err)
	}
	if value, err := fd.Getxattr("user.a"); err != nil || value != long {
		t.Errorf("user.a has %d bytes, %v", len(value), err)
	}
	if value, err := fd.Getxattr("user.empty"); err != nil || value != "" {
		t.Errorf("user.empty is %q, %v", value, err)
	}
	if _, err := fd.Getxattr("user.none"); !errors.Is(err, unix.ENODATA) {
		t.Errorf("a missing attribute: %v", err)
	}
}
