package containers_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.podman.io/storage/pkg/mount"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

func TestSelf(t *testing.T) {
	self, err := containers.Self()
	if err != nil || self.PID != os.Getpid() || self.Start == 0 || len(self.Boot) != 36 {
		t.Errorf("%+v, %v", self, err)
	}
}

// again opens the store of s a second time, as the next command does.
func again(t *testing.T, s *containers.Store) {
	t.Helper()
	next, err := containers.Open(containers.Options{GraphRoot: s.GraphRoot(), RunRoot: s.RunRoot(), Driver: "overlay"})
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func gone(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err != nil
}

// TestReap: what a dead process has left goes with its record; what a living one has stays.
func TestReap(t *testing.T) {
	s := open(t)
	whole := layer(t, s, commit.Layer{}, "a", "")
	root, outside := s.GraphRoot(), t.TempDir()
	half, link, kept, own := outside+"/.half.ABCDEFG2", outside+"/.link.ABCDEFG2", outside+"/.kept.ABCDEFG2", outside+"/.own.ABCDEFG2"
	others := []string{outside + "/a.ABCDEFG2", outside + "/.b.ABCDEFG1", outside + "/.c", outside + "/..ABCDEFG2", outside + "/.d.ABCDEFG2.e"}
	for _, path := range append(others, half, kept, own) {
		write(t, path, "x")
	}
	if err := os.Symlink(kept, link); err != nil {
		t.Fatal(err)
	}
	if err := s.OwnFile(own); err != nil {
		t.Fatal(err)
	}
	lines := []string{`{"pid":1,"start":2,"boot":"b"}`, `{"file":"` + half + `"}`, `{"file":"` + link + `"}`, `{"file":"relative"}`, `{"file":"` + kept}
	for _, path := range others {
		lines = append([]string{`{"file":"` + path + `"}`}, lines...)
	}
	write(t, root+"/rbuild-owners/dead", strings.Join(lines, "\n"))
	strays := []string{"overlay-layers/.tmp-layers.json12", "overlay-images/.tmp-images.json3", "overlay-images/" + whole.ID + "/.tmp-=x4"}
	for _, path := range strays {
		write(t, filepath.Join(root, path), "x")
	}
	dangling := filepath.Join(root, "overlay/l/DANGLING")
	if err := os.Symlink("../none/diff", dangling); err != nil {
		t.Fatal(err)
	}
	again(t, s)
	for _, path := range append(strays, "rbuild-owners/dead", "overlay/l/DANGLING") {
		if !gone(t, filepath.Join(root, path)) {
			t.Errorf("%s is left", path)
		}
	}

	for _, path := range others {
		if gone(t, path) {
			t.Errorf("%s, which is not of the names that are recorded, is gone", path)
		}
		if err := s.OwnFile(path); err == nil {
			t.Errorf("%s can be recorded", path)
		}
	}

	if !gone(t, half) || gone(t, link) || gone(t, kept) || gone(t, own) {
		t.Errorf("half is gone: %t, a link: %t, another's: %t, of the living: %t", gone(t, half), gone(t, link), gone(t, kept), gone(t, own))
	}
	links, err := os.ReadDir(root + "/overlay/l")
	if err != nil || len(links) != 1 {
		t.Errorf("links: %v, %v", links, err)
	}
	records, err := os.ReadDir(root + "/rbuild-owners")
	if err != nil || len(records) != 1 {
		t.Errorf("records: %v, %v", records, err)
	}
}

// TestFailedOnFullDisk: after a full disk the record stays for the next command, which looks for
// what is left.
func TestFailedOnFullDisk(t *testing.T) {
	s := open(t)
	full := os.WriteFile("/dev/full", []byte("x"), 0)
	if full == nil {
		t.Skip("/dev/full has room")
	}
	dangling := filepath.Join(s.GraphRoot(), "overlay/l/DANGLING")
	for _, err := range []error{errors.New("another"), full} {
		next, openErr := containers.Open(containers.Options{GraphRoot: s.GraphRoot(), RunRoot: s.RunRoot(), Driver: "overlay"})
		if openErr != nil {
			t.Fatal(openErr)
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(dangling), 0o700), os.Symlink("../none/diff", dangling)); err != nil {
			t.Fatal(err)
		}
		next.Failed(err)
		if err := next.Close(); err != nil {
			t.Fatal(err)
		}
		again(t, s)
		if wasFull := errors.Is(err, full); gone(t, dangling) != wasFull {
			t.Errorf("%v: dangling link gone is %t", err, !wasFull)
		}
		if err := os.RemoveAll(dangling); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReserve: the reserve is given up for what finds no room, and made anew.
func TestReserve(t *testing.T) {
	s := open(t)
	reserve := filepath.Join(s.GraphRoot(), "rbuild-reserve")
	full := os.WriteFile("/dev/full", []byte("x"), 0)
	calls := 0
	err := s.Freeing(func() error {
		if calls++; gone(t, reserve) {
			return nil
		}
		return full
	})

	if err != nil || calls != 2 || !gone(t, reserve) {
		t.Errorf("%d calls: %v", calls, err)
	}
	if err := s.Freeing(func() error { return full }); !errors.Is(err, full) {
		t.Errorf("without a reserve: %v", err)
	}
	again(t, s)
	if gone(t, filepath.Join(reserve, "space")) {
		t.Error("it is not made anew")
	}
	calls = 0
	other := errors.New("another")
	if err := s.Freeing(func() error { calls++; return other }); !errors.Is(err, other) || calls != 1 || gone(t, reserve) {
		t.Errorf("another error: %d calls, %v", calls, err)
	}
}

// TestReserveTogether: many can make the reserve at once.
func TestReserveTogether(t *testing.T) {
	nstest.Need(t)
	for range 10 {
		dir := t.TempDir()
		t.Cleanup(func() { _ = mount.Unmount(filepath.Join(dir, "root", "overlay")) })
		first, err := containers.Open(containers.Options{GraphRoot: dir + "/root", RunRoot: dir + "/run", Driver: "overlay"})
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if err := os.RemoveAll(dir + "/root/rbuild-reserve/space"); err != nil {
					t.Error(err)
				}
				if err := first.KeepReserve(); err != nil {
					t.Error(err)
				}
				if err := first.Freeing(func() error { return nil }); err != nil {
					t.Error(err)
				}
			})
		}

		all.Wait()
		if err := first.Close(); err != nil {
			t.Error(err)
		}
	}
}
