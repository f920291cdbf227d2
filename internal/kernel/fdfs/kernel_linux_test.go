package fdfs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// openRW opens a file of its own each time, as another process would.
func openRW(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestLocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	a, b := openRW(t, path), openRW(t, path)
	for _, step := range []struct {
		name string
		do   func() (bool, error)
		want bool
	}{
		{"a locks", func() (bool, error) { return TryLock(a) }, true},
		{"a has the lock", func() (bool, error) { return TryLock(b) }, false},
		{"no sharing with a writer", func() (bool, error) { return TryShare(b) }, false},
		{"a shares", func() (bool, error) { return TryShare(a) }, true},
		{"b shares too", func() (bool, error) { return TryShare(b) }, true},
		{"no lock while b shares", func() (bool, error) { return TryLock(a) }, false},
		{"b unlocks", func() (bool, error) { return true, Unlock(b) }, true},
		{"a locks again", func() (bool, error) { return TryLock(a) }, true},
		{"a closes", func() (bool, error) { return true, a.Close() }, true},
		{"b locks", func() (bool, error) { return TryLock(b) }, true},
	} {
		if got, err := step.do(); err != nil || got != step.want {
			t.Fatalf("%s: %t, %v", step.name, got, err)
		}
	}
}

func TestTryFlock(t *testing.T) {
	dir := t.TempDir()
	open := func() *os.File {
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}

	a, b := open(), open()
	if ok, err := TryFlock(a); !ok || err != nil {
		t.Fatalf("first: %t, %v", ok, err)
	}
	if ok, err := TryFlock(b); ok || err != nil {
		t.Errorf("second: %t, %v", ok, err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if ok, err := TryFlock(b); !ok || err != nil {
		t.Errorf("after the close: %t, %v", ok, err)
	}
}

func TestLockHolder(t *testing.T) {
	f := openRW(t, filepath.Join(t.TempDir(), "lock"))
	if pid, err := LockHolder(f); pid != 0 || err != nil {
		t.Errorf("without a lock: %d, %v", pid, err)
	}
	if ok, err := TryLock(openRW(t, f.Name())); !ok || err != nil {
		t.Fatal(err)
	}
	if pid, err := LockHolder(f); pid != 0 || err != nil {
		t.Errorf("of an open file description: %d, %v", pid, err)
	}
}

func TestLockFileAt(t *testing.T) {
	dir := tree(t, "link -> /etc/passwd", "sub/")
	f, err := LockFileAt(dir, "new.lock")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if st, err := FileStat(f); err != nil || st.Mode != 0o600 || st.Type != Regular {
		t.Errorf("%+v, %v", st, err)
	}
	for name, want := range map[string]error{"link": unix.ELOOP, "sub": unix.EISDIR, "../x": unix.EINVAL} {
		if _, err := LockFileAt(dir, name); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFileSystemAt(t *testing.T) {
	dir := t.TempDir()
	s, err := FileSystemAt(dir)
	if err != nil || s.Kind == "" || s.ReadOnly || s.Bytes.Total < s.Bytes.Free {
		t.Errorf("%+v, %v", s, err)
	}
	r, err := RoomAt(dir)
	if err != nil || r.Bytes == 0 || r.Inodes == 0 {
		t.Errorf("%+v, %v", r, err)
	}

	proc, err := FileSystemAt("/proc")
	if err != nil || proc.Bytes != (Usage{}) || proc.Dev == s.Dev {
		t.Errorf("%+v, %v", proc, err)
	}
	if r, err := RoomAt("/proc"); err != nil || r.Inodes != math.MaxUint64 {
		t.Errorf("a file system that counts no inodes: %+v, %v", r, err)
	}

	if _, err := FileSystemAt(dir + "/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := RoomAt(dir + "/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestFSName(t *testing.T) {
	for kind, want := range map[int64]string{
		unix.OVERLAYFS_SUPER_MAGIC: "overlay",
		unix.BTRFS_SUPER_MAGIC:     "btrfs",
		0x2fc12fc1:                 "zfs",
		0x1234:                     "file system 0x1234",
	} {
		if got := fsName(kind); got != want {
			t.Errorf("%#x: %s, want %s", kind, got, want)
		}
	}
}

func TestAllocate(t *testing.T) {
	f := openRW(t, filepath.Join(t.TempDir(), "file"))
	if err := Allocate(f, 1<<16); err != nil {
		t.Fatal(err)
	}
	st, err := f.Stat()
	if err != nil || st.Size() != 1<<16 {
		t.Errorf("%v, %v", st, err)
	}
	if data, err := os.ReadFile(f.Name()); err != nil || slices.ContainsFunc(data, func(b byte) bool { return b != 0 }) {
		t.Errorf("the space is not zero, %v", err)
	}
}

func TestErrors(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("x: %w", PathError("open", "f", err)) }
	for _, tc := range []struct {
		err                     error
		noRoom, refused, notDir bool
	}{
		{wrap(ENOSPC), true, false, false},
		{wrap(EDQUOT), true, false, false},
		{wrap(unix.EPERM), false, true, false},
		{wrap(unix.EACCES), false, true, false},
		{wrap(ENOTDIR), false, false, true},
		{wrap(EINVAL), false, false, false},
		{nil, false, false, false},
	} {
		if NoRoom(tc.err) != tc.noRoom || IsRefused(tc.err) != tc.refused || IsNotDir(tc.err) != tc.notDir {
			t.Errorf("%v: no room %t, refused %t, not a directory %t", tc.err, NoRoom(tc.err), IsRefused(tc.err), IsNotDir(tc.err))
		}
	}

	if err := PathError("open", "f", nil); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]bool{"a": true, ".": true, "": false, "..": false, "a/b": false, "a\x00": false} {
		if err := CheckName("open", name); (err == nil) != want {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestMemfd(t *testing.T) {
	f, err := Memfd("canary")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("text"); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(io.NewSectionReader(f, 0, 10)); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
	if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("not close-on-exec: %#x, %v", flags, err)
	}
}

func TestAncestry(t *testing.T) {
	self, err := ProcSelf()
	if err != nil || self != "/proc/"+strconv.Itoa(os.Getpid()) {
		t.Skipf("/proc is that of another PID namespace: %s, %v", self, err)
	}
	pids, err := Ancestry()
	if err != nil || len(pids) == 0 || pids[0] != strconv.Itoa(os.Getpid()) {
		t.Fatalf("%v, %v", pids, err)
	}
	if len(pids) > 1 && pids[1] != strconv.Itoa(os.Getppid()) {
		t.Errorf("parent %s, want %d", pids[1], os.Getppid())
	}
	if _, err := parentOf("none"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestKernelRelease(t *testing.T) {
	got, err := KernelRelease()
	want, readErr := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil || readErr != nil || got != strings.TrimSpace(string(want)) {
		t.Errorf("%q, %v; want %q, %v", got, err, want, readErr)
	}
}

func TestCheckWritable(t *testing.T) {
	dir := t.TempDir()
	closed := filepath.Join(dir, "closed")
	if err := os.WriteFile(closed, nil, 0o400); err != nil {
		t.Fatal(err)
	}
	if err := CheckWritable(dir); err != nil {
		t.Error(err)
	}
	if err := CheckWritable(closed); os.Geteuid() != 0 && !IsRefused(err) {
		t.Errorf("a read-only file: %v", err)
	}
	if err := CheckWritable(dir + "/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestDuplicate: the duplicate has its own name and number, and outlives the original.
func TestDuplicate(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()

	d, err := Duplicate(w, "standard output")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.Name() != "standard output" || d.Fd() < 3 || d.Fd() == w.Fd() {
		t.Errorf("%s, %d", d.Name(), d.Fd())
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.WriteString("x"); err != nil {
		t.Error(err)
	}
	if flags, err := unix.FcntlInt(d.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("not close-on-exec: %#x, %v", flags, err)
	}
}

// TestWithUmask: a process that fn starts has the umask, and this process keeps its own.
func TestWithUmask(t *testing.T) {
	before := umask(t, nil)
	for _, mask := range []int{0o077, 0o022} {
		got := umask(t, func(start func() error) error { return WithUmask(mask, start) })
		if want := fmt.Sprintf("%04o", mask); got != want {
			t.Errorf("the process has umask %s, want %s", got, want)
		}
	}
	if after := umask(t, nil); after != before {
		t.Errorf("this process had umask %s, and has %s", before, after)
	}
}

// umask returns the umask of a process that is started by run.
func umask(t *testing.T, run func(start func() error) error) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", "umask")
	var out strings.Builder
	cmd.Stdout = &out
	var err error
	if run == nil {
		err = cmd.Start()
	} else {
		err = run(cmd.Start)
	}
	if err := errors.Join(err, cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String())
}

func TestCountTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, _ = conn.Write([]byte("12345"))
			defer conn.Close()
			_, _ = io.Copy(io.Discard, conn)
		}
	}()

	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}

	count, err := CountTCP(conn)
	if err != nil || count.Unread > 2 || count.Received != 0 && count.Received != 5 {
		t.Errorf("%+v, %v", count, err)
	}
	over, err := CountTCP(tls.Client(conn, &tls.Config{ServerName: "x", MinVersion: tls.VersionTLS12}))
	if diff := cmp.Diff(count, over); err != nil || diff != "" {
		t.Errorf("over TLS: %s, %v", diff, err)
	}

	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := CountTCP(conn); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	pipe, _ := net.Pipe()
	if _, err := CountTCP(pipe); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("no TCP: %v", err)
	}
}

func TestOpenRegular(t *testing.T) {
	dir := tree(t, "file", "link -> file", "sub/")
	at := func(name string) string { return filepath.Join(dir.Name(), name) }
	if err := MknodAt(dir, "fifo", Fifo, 0o600, 0); err != nil {
		t.Fatal(err)
	}
	for name, ok := range map[string]bool{"file": true, "link": true, "sub": false, "fifo": false, "none": false} {
		f, size, err := OpenRegular(at(name))
		if (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			f.Close()
			if size != 4 {
				t.Errorf("%s has %d bytes", name, size)
			}
		}
	}
}

func TestCopyRange(t *testing.T) {
	dir := tree(t, "src")
	src, _, err := OpenFileAt(dir, "src")
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := CreateAt(dir, "dst")
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()

	n, ok, err := CopyRange(dst, src, 1, 10)
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		t.Skip("the kernel does not copy on this file system")
	}
	if text, err := os.ReadFile(filepath.Join(dir.Name(), "dst")); err != nil || n != 2 || string(text) != "\x00rc" {
		t.Errorf("%d bytes: %q, %v", n, text, err)
	}
	if n, ok, err := CopyRange(dst, src, 3, 10); n != 0 || !ok || err != nil {
		t.Errorf("at the end: %d, %t, %v", n, ok, err)
	}
}

// TestSocketPair: each end reads the bytes of the other end, CloseWrite ends one stream and Shutdown both.
func TestSocketPair(t *testing.T) {
	ours, theirs, err := SocketPair("ours", "theirs")
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	defer theirs.Close()
	if ours.Name() != "ours" || theirs.Name() != "theirs" {
		t.Errorf("names %s and %s", ours.Name(), theirs.Name())
	}
	for _, f := range []*os.File{ours, theirs} {
		if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s is not close-on-exec: %#x, %v", f.Name(), flags, err)
		}
	}

	if _, err := ours.WriteString("request"); err != nil {
		t.Fatal(err)
	}
	if err := CloseWrite(ours); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(theirs); err != nil || string(got) != "request" {
		t.Errorf("theirs read %q, %v", got, err)
	}

	if _, err := theirs.WriteString("answer"); err != nil {
		t.Fatal(err)
	}
	if err := Shutdown(theirs); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(ours); err != nil || string(got) != "answer" {
		t.Errorf("ours read %q, %v", got, err)
	}
	if _, err := ours.WriteString("x"); !errors.Is(err, EPIPE) {
		t.Errorf("writing after Shutdown: %v", err)
	}
}

// TestInherited: programs that this process starts do not inherit the descriptor further.
func TestInherited(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	fd, err := unix.Dup(int(r.Fd())) // without close-on-exec, as after an exec
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}

	f := Inherited(fd, "channel")
	defer f.Close()
	if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 || f.Name() != "channel" {
		t.Errorf("%s: flags %#x, %v", f.Name(), flags, err)
	}
}
