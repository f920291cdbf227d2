package copier

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
	"codeberg.org/rbuild/rbuild/internal/treetest"
)

// TestChangedSource: Write fails if a file differs from the file that Select digested.
func TestChangedSource(t *testing.T) {
	nstest.Need(t)
	outside := treetest.Build(t, t.TempDir(), "f canary 644 canary")
	for _, tc := range []struct {
		name   string
		size   int
		change func(file string, st os.FileInfo) error
		old    bool // not written just before
		ok     bool
	}{
		{name: "nothing", size: 10, ok: true, change: func(string, os.FileInfo) error { return nil }},
		{name: "nothing in a large file", size: 3 << 20, ok: true, change: func(string, os.FileInfo) error { return nil }},
		{name: "times only", size: 3 << 20, ok: true, change: func(f string, _ os.FileInfo) error { return os.Chtimes(f, time.Unix(1, 0), time.Unix(1, 0)) }},
		{name: "same size and mtime", size: 10, change: sneak},
		{name: "same size and mtime in a large file", size: 3 << 20, change: sneak},
		{name: "same size and mtime in a large old file", size: 3 << 20, old: true, change: sneak},
		{name: "nothing in a large old file", size: 3 << 20, old: true, ok: true, change: func(string, os.FileInfo) error { return nil }},
		{name: "longer", size: 10, change: appendByte},
		{name: "longer large file", size: 3 << 20, change: appendByte},
		{name: "shorter", size: 10, change: func(f string, _ os.FileInfo) error { return os.Truncate(f, 9) }},
		{name: "gone", size: 10, change: func(f string, _ os.FileInfo) error { return os.Remove(f) }},
		{name: "replaced by a link", size: 10, change: func(f string, _ os.FileInfo) error {
			return errors.Join(os.Remove(f), os.Symlink(filepath.Join(outside, "canary"), f))
		}},
		{name: "replaced by a fifo", size: 10, change: func(f string, _ os.FileInfo) error {
			d, err := os.Open(filepath.Dir(f))
			if err != nil {
				return err
			}
			defer d.Close()
			return errors.Join(os.Remove(f), fdfs.MknodAt(d, filepath.Base(f), fdfs.Fifo, 0o600, 0))
		}},
		{name: "directory replaced by a link", size: 10, change: func(f string, _ os.FileInfo) error {
			return errors.Join(os.Rename(filepath.Dir(f), filepath.Dir(f)+"-moved"), os.Symlink(outside, filepath.Dir(f)))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "d", "canary")
			if err := os.Mkdir(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, bytes.Repeat([]byte("a"), tc.size), 0o644); err != nil {
				t.Fatal(err)
			}
			st, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			if tc.old {
				waitOld()
			}
			tree, err := OpenContext(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()

			sel, err := Select(context.Background(), tree, Spec{Sources: []string{"."}, Dest: "/"})
			if err != nil {
				t.Fatal(err)
			}
			defer sel.Close()

			if n := sel.items[0].node.kids[0].kids[0]; n.racy == tc.old {
				t.Errorf("racy: %v", n.racy)
			}
			if err := tc.change(file, st); err != nil {
				t.Fatal(err)
			}
			root := t.TempDir()
			err = sel.Write(context.Background(), fdfs.OnDisk(treetest.Open(t, root)))
			if tc.ok != (err == nil) {
				t.Fatalf("error %v, want one: %v", err, !tc.ok)
			}
			if err != nil && !strings.Contains(err.Error(), "d") {
				t.Errorf("error %v does not name the file", err)
			}
		})
	}
}

// TestChangedArchive: Write fails if an archive differs from the archive that Select digested.
func TestChangedArchive(t *testing.T) {
	nstest.Need(t)
	dir := t.TempDir()
	treetest.Write(t, dir, "t", treetest.Tar(t, treetest.Entry{Name: "a", Data: "A"}))
	tree, err := OpenContext(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()

	sel, err := Select(context.Background(), tree, Spec{Sources: []string{"t"}, Dest: "/", Add: true})
	if err != nil {
		t.Fatal(err)
	}
	defer sel.Close()

	treetest.Write(t, dir, "t", treetest.Tar(t, treetest.Entry{Name: "a", Data: "B"}))
	if err := sel.Write(context.Background(), fdfs.OnDisk(treetest.Open(t, t.TempDir()))); !errors.Is(err, errChanged) {
		t.Errorf("error %v", err)
	}
}

// waitOld waits until a file that was just written is not racy any more.
func waitOld() { time.Sleep(racyWindow + 10*time.Millisecond) }

// sneak changes the content of a file and restores its size and its time.
func sneak(file string, st os.FileInfo) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte("b"))
	return errors.Join(err, f.Close(), os.Chtimes(file, st.ModTime(), st.ModTime()))
}

func appendByte(file string, _ os.FileInfo) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte("b"))
	return errors.Join(err, f.Close())
}

// TestSwappedLinks: while a directory is swapped for a link to outside again and again, no file of
// outside is copied and no file is written there.
func TestSwappedLinks(t *testing.T) {
	nstest.Need(t)
	outside := treetest.Build(t, t.TempDir(), "f secret 644 canary")
	dir := treetest.Build(t, t.TempDir(), "f d/secret 644 fine", "f d/sub/secret 644 fine")
	if err := os.Symlink(outside, filepath.Join(dir, "away")); err != nil {
		t.Fatal(err)
	}
	swap := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)

		d, away, tmp := filepath.Join(dir, "d"), filepath.Join(dir, "away"), filepath.Join(dir, "tmp")
		for {
			select {
			case <-swap:
				return
			default:
				for _, r := range [][2]string{{d, tmp}, {away, d}, {d, away}, {tmp, d}} {
					_ = os.Rename(r[0], r[1]) // the other side may have made what was away
				}
			}
		}
	}()

	ok := 0
	for deadline := time.Now().Add(500 * time.Millisecond); time.Now().Before(deadline); {
		for _, source := range []string{"d", "d/secret", "d/*", "."} {
			root := t.TempDir()
			if err := do(t, dir, nil, root, Spec{Sources: []string{source}, Dest: "/x/"}); err == nil {
				ok++
			}
			for _, line := range treetest.List(t, root) {
				if strings.Contains(line, "canary") {
					t.Fatalf("%s: %s", source, line)
				}
			}
		}
	}

	// Now dir is the destination: an image that somebody changes meanwhile.
	src := treetest.Build(t, t.TempDir(), "f secret 644 overwritten", "f n 644 new")
	for deadline := time.Now().Add(300 * time.Millisecond); time.Now().Before(deadline); {
		if err := do(t, src, nil, dir, Spec{Sources: []string{"."}, Dest: "/d/"}); err == nil {
			ok++
		}
		if _, err := MakeDirs(fdfs.OnDisk(treetest.Open(t, dir)), "/d/e/f", fdfs.Owner{}); err == nil {
			ok++
		}
	}

	close(swap)
	<-done
	if got := strings.Join(treetest.List(t, outside), " "); !strings.HasPrefix(got, "secret regular") || !strings.HasSuffix(got, " canary") {
		t.Errorf("outside is now %q", got)
	}
	if ok == 0 {
		t.Error("no file was copied, so nothing was tested")
	}
}

// TestCanceled: Select and Write stop when the context is canceled.
func TestCanceled(t *testing.T) {
	tree, err := OpenContext(manyFiles(t, 100, 10), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()

	ctx, cancel := context.WithCancel(context.Background())
	sel, err := Select(ctx, tree, Spec{Sources: []string{"."}, Dest: "/"})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := Select(ctx, tree, Spec{Sources: []string{"."}, Dest: "/"}); !errors.Is(err, context.Canceled) {
		t.Errorf("Select: %v", err)
	}
	if err := sel.Write(ctx, fdfs.OnDisk(treetest.Open(t, t.TempDir()))); !errors.Is(err, context.Canceled) {
		t.Errorf("Write: %v", err)
	}
}
