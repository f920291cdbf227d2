package overlay_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// scratch returns a directory on a disk file system with the given directories in it.
func scratch(tb testing.TB, dirs ...string) string {
	tb.Helper()
	nstest.Need(tb)
	base, err := os.MkdirTemp("/var/tmp", "overlay-test-") //nolint:usetesting // /tmp may be a tmpfs or an overlay
	check(tb, err)
	tb.Cleanup(func() { check(tb, os.RemoveAll(base)) })
	for _, dir := range dirs {
		check(tb, os.MkdirAll(filepath.Join(base, dir), 0o755))
	}
	return base
}

func write(tb testing.TB, name, text string) {
	tb.Helper()
	check(tb, os.WriteFile(name, []byte(text), 0o644))
}

func read(tb testing.TB, name string) string {
	tb.Helper()
	text, err := os.ReadFile(name)
	check(tb, err)
	return string(text)
}

// open mounts m and returns a path of the root of the mount, by descriptor, which is valid until
// closeIt.
func open(tb testing.TB, m overlay.Mount) (path string, closeIt func()) {
	tb.Helper()
	root, err := overlay.Open(m)
	check(tb, err)
	return fmt.Sprintf("/proc/self/fd/%d", root.Fd()), func() { check(tb, root.Close()) }
}

// TestOpen checks that both ways to mount show the same files and fill the upper directory equally.
func TestOpen(t *testing.T) {
	for _, classic := range []bool{false, true} {
		t.Run(fmt.Sprintf("classic %v", classic), func(t *testing.T) {
			base := scratch(t, "top", "bottom/dir", "upper", "work")
			at := func(name string) string { return filepath.Join(base, name) }
			write(t, at("top/both"), "top")
			write(t, at("bottom/both"), "bottom")
			write(t, at("bottom/gone"), "x")
			m := overlay.Mount{
				Lowers: []string{at("top"), at("bottom")}, Upper: at("upper"), Work: at("work"), Classic: classic,
			}
			merged, closeIt := open(t, m)
			if got := read(t, merged+"/both"); got != "top" {
				t.Errorf("both is from %s", got)
			}
			check(t, os.Remove(merged+"/gone"))
			check(t, os.Remove(merged+"/dir"))
			check(t, os.Mkdir(merged+"/dir", 0o755)) // EIO without userxattr
			closeIt()
			mounts := read(t, "/proc/self/mountinfo")
			if strings.Contains(mounts, base) {
				t.Errorf("a mount is left:\n%s", mounts)
			}
			var st unix.Stat_t
			check(t, unix.Lstat(at("upper/gone"), &st))
			if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
				t.Errorf("no whiteout: mode %o", st.Mode)
			}
			value := make([]byte, 8)
			n, err := unix.Getxattr(at("upper/dir"), "user.overlay.opaque", value)
			check(t, err)
			if string(value[:n]) != "y" {
				t.Errorf("not opaque: %q", value[:n])
			}
		})
	}
}

func TestManyLayers(t *testing.T) {
	const count = 300
	for _, classic := range []bool{false, true} {
		base := scratch(t, "upper", "work")
		m := overlay.Mount{Upper: filepath.Join(base, "upper"), Work: filepath.Join(base, "work"), Classic: classic}
		for i := range count {
			dir := filepath.Join(base, fmt.Sprintf("a-rather-long-name-of-a-layer-%03d", i))
			check(t, os.Mkdir(dir, 0o755))
			write(t, filepath.Join(dir, fmt.Sprint("file", i)), "")
			m.Lowers = append(m.Lowers, dir)
		}

		root, err := overlay.Open(m)
		check(t, err)
		names, err := root.Readdirnames(-1)
		check(t, err)
		check(t, root.Close())
		if len(names) != count {
			t.Errorf("classic %v: %d names", classic, len(names))
		}
	}
}

// TestOpenPinned checks that a layer given by descriptor is the directory that was opened, even
// after a rename, and that several goroutines can mount at the same time.
func TestOpenPinned(t *testing.T) {
	for _, classic := range []bool{false, true} {
		base := scratch(t, "a", "b")
		write(t, filepath.Join(base, "a/a"), "")
		write(t, filepath.Join(base, "b/b"), "")
		var lowers []string
		for _, name := range []string{"a", "b"} {
			f, err := os.Open(filepath.Join(base, name))
			check(t, err)
			defer f.Close()
			lowers = append(lowers, fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
			check(t, os.Rename(filepath.Join(base, name), filepath.Join(base, name+".moved")))
			check(t, os.Mkdir(filepath.Join(base, name), 0o755))
		}

		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				root, err := overlay.Open(overlay.Mount{Lowers: lowers, Classic: classic})
				if err != nil {
					t.Error(err)
					return
				}
				defer root.Close()

				names, err := root.Readdirnames(-1)
				if err != nil || len(names) != 2 {
					t.Errorf("classic %v: %v, %v", classic, names, err)
				}
				if fd, err := unix.Openat(int(root.Fd()), "new", unix.O_CREAT|unix.O_WRONLY, 0o644); err == nil {
					unix.Close(fd)
					t.Error("the mount without an upper directory can be written to")
				}
			})
		}

		all.Wait()
	}
}

func TestOneDirectory(t *testing.T) {
	base := scratch(t, "only")
	write(t, filepath.Join(base, "only/file"), "x")
	merged, closeIt := open(t, overlay.Mount{Lowers: []string{filepath.Join(base, "only")}})
	defer closeIt()
	if got := read(t, filepath.Join(merged, "file")); got != "x" {
		t.Errorf("got %q", got)
	}
	if err := os.WriteFile(filepath.Join(merged, "new"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing: %v", err)
	}
}

func TestValidate(t *testing.T) {
	many := make([]string, overlay.MaxLowers+1)
	for i := range many {
		many[i] = "/x"
	}
	tests := []struct {
		name string
		m    overlay.Mount
		want string
	}{
		{"no lower", overlay.Mount{}, "no lower directory"},
		{"too many", overlay.Mount{Lowers: many}, "501 layers, the kernel takes 500"},
		{"no work", overlay.Mount{Lowers: []string{"/x"}, Upper: "/u"}, "go together"},
		{"relative", overlay.Mount{Lowers: []string{"x"}}, "not an absolute path"},
		{"NUL", overlay.Mount{Lowers: []string{"/x\x00y"}}, "not an absolute path"},
		{"right", overlay.Mount{Lowers: []string{"/x"}, Upper: "/u", Work: "/w"}, ""},
	}

	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got := ""
			if err := tc.m.Validate(); err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, tc.want) || tc.want == "" && got != "" {
				t.Error(cmp.Diff(tc.want, got))
			}
		})
	}
}

func TestProbe(t *testing.T) {
	base := scratch(t, "lower", "upper", "work")
	check(t, overlay.Probe(base, false))
	left, err := filepath.Glob(filepath.Join(base, "overlay-probe-*"))
	check(t, err)
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}

	// An overlay cannot hold the upper directory of another overlay.
	at := func(name string) string { return filepath.Join(base, name) }
	m := overlay.Mount{Lowers: []string{at("lower")}, Upper: at("upper"), Work: at("work")}
	merged, closeIt := open(t, m)
	defer closeIt()

	err = overlay.Probe(merged, false)
	if err == nil || !strings.Contains(err.Error(), "mount a volume there (in a pod an emptyDir) or use another directory (with rbuild: --root)") {
		t.Errorf("on an overlay: %v", err)
	}
	if err := overlay.Probe(at("none"), false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// TestVolatile looks for the file by which the kernel marks the work directory of a volatile mount
// (overlayfs.rst).
func TestVolatile(t *testing.T) {
	for _, classic := range []bool{false, true} {
		for _, volatile := range []bool{false, true} {
			base := scratch(t, "lower", "upper", "work")
			_, closeIt := open(t, overlay.Mount{
				Lowers: []string{base + "/lower"}, Upper: base + "/upper", Work: base + "/work", Classic: classic, Volatile: volatile,
			})
			closeIt()
			if _, err := os.Lstat(filepath.Join(base, "work", "work", "incompat", "volatile")); (err == nil) != volatile {
				t.Errorf("classic %v: volatile %v: %v", classic, volatile, err)
			}
		}
	}
}

// TestNoDevices checks that each kind of mount refuses to open device nodes, but has setuid
// programs.
func TestNoDevices(t *testing.T) {
	base := scratch(t, "one", "two", "upper", "work")
	at := func(name string) string { return filepath.Join(base, name) }
	for name, m := range map[string]overlay.Mount{
		"one layer":        {Lowers: []string{at("one")}},
		"layers":           {Lowers: []string{at("one"), at("two")}},
		"with changes":     {Lowers: []string{at("one")}, Upper: at("upper"), Work: at("work")},
		"layers, classic":  {Lowers: []string{at("one"), at("two")}, Classic: true},
		"changes, classic": {Lowers: []string{at("one")}, Upper: at("upper"), Work: at("work"), Classic: true},
	} {
		t.Run(name, func(t *testing.T) {
			mount, err := overlay.Detach(m)
			check(t, err)
			defer mount.Close()
			var fs unix.Statfs_t
			check(t, unix.Fstatfs(int(mount.Fd()), &fs))
			if fs.Flags&unix.ST_NODEV == 0 {
				t.Errorf("flags %#x lack nodev", fs.Flags)
			}
			if fs.Flags&unix.ST_NOSUID != 0 {
				t.Errorf("flags %#x have nosuid, and setuid programs would not work", fs.Flags)
			}
		})
	}
}
