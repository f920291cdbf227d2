package overlay_test

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	cs "go.podman.io/storage"
	"go.podman.io/storage/pkg/mount"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/internal/rootfs/overlay"
	"codeberg.org/rbuild/rbuild/internal/rootfs/rootfstest"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// newStore makes a store, which must have no staging directories at the end.
func newStore(t *testing.T) *containers.Store {
	t.Helper()
	nstest.Need(t)
	home := t.TempDir()
	store, err := containers.Open(containers.Options{GraphRoot: home + "/root", RunRoot: home + "/run", Driver: "overlay"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		left, err := os.ReadDir(home + "/root/overlay/tempdirs")
		if err != nil || len(left) > 0 {
			t.Errorf("staging directories are left: %v, %v", left, err)
		}
		if err := errors.Join(store.Close(), mount.Unmount(home+"/root/overlay")); err != nil {
			t.Error(err)
		}
	})
	return store
}

// library returns the library's own handle of the store.
func library(t *testing.T, store *containers.Store) cs.Store {
	t.Helper()
	lib, err := cs.GetStore(cs.StoreOptions{GraphRoot: store.GraphRoot(), RunRoot: store.RunRoot(), GraphDriverName: "overlay"})
	if err != nil {
		t.Fatal(err)
	}
	return lib
}

func openBackend(t *testing.T, store *containers.Store) rootfs.Backend {
	t.Helper()
	b, err := overlay.Open(store, overlay.Options{Warn: func(text string) { t.Error(text) }})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBackend(t *testing.T) {
	nstest.Need(t)
	rootfstest.Test(t, func(t *testing.T) rootfs.Backend { return openBackend(t, newStore(t)) })
}

// commitFile makes a layer with one file.
func commitFile(t *testing.T, s rootfs.Stack, o rootfs.CommitOptions) commit.Layer {
	t.Helper()
	l, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rootfstest.Write(t, l, "a", "text")
	job, err := l.Commit(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := job.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func scratch(t *testing.T, b rootfs.Backend) rootfs.Stack {
	t.Helper()
	s, err := b.Scratch()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNamesAndNotes(t *testing.T) {
	store := newStore(t)
	b := openBackend(t, store)
	o := rootfs.CommitOptions{Name: "rbuild-cache-x", Notes: func() []byte { return []byte("note") }}
	stored := commitFile(t, scratch(t, b), o)
	found, ok, err := store.LayerByName("rbuild-cache-x")
	if err != nil || !ok || found.ID != stored.ID {
		t.Fatalf("found %v, %v, %v", found, ok, err)
	}
	if notes, err := store.Notes(stored.ID); err != nil || string(notes) != "note" {
		t.Errorf("notes %q, %v", notes, err)
	}

	s := scratch(t, b)
	if err := s.Push(t.Context(), found.Layer); err != nil {
		t.Fatal(err)
	}
	if files := strings.Join(rootfstest.Files(t, s), " "); files != "a=text" {
		t.Errorf("files %s", files)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// TestRemovedLayer shows that a guard reports a layer that was removed: before the hold, and with it.
func TestRemovedLayer(t *testing.T) {
	store := newStore(t)
	b := openBackend(t, store)
	stored := commitFile(t, scratch(t, b), rootfs.CommitOptions{})
	s := scratch(t, b)
	if err := s.Push(t.Context(), stored); err != nil {
		t.Fatal(err)
	}
	if err := s.Guard().Check(); err != nil {
		t.Fatal(err)
	}

	if err := library(t, store).DeleteLayer(stored.ID); err != nil {
		t.Fatal(err)
	}
	for name, check := range map[string]func() error{"check": s.Guard().Check, "held": s.Guard().Held} {
		if err := check(); err == nil || !strings.Contains(err.Error(), "was removed while the build ran") {
			t.Errorf("%s: %v", name, err)
		}
	}

	if err := scratch(t, b).Push(t.Context(), stored); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a removed layer was pushed: %v", err)
	}
	l, err := s.Begin(t.Context()) // the pinned directory still exists
	if err == nil {
		err = l.Discard()
	}
	if err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// TestHeldLayerStays shows that nobody can remove a layer without force while the build reads it.
func TestHeldLayerStays(t *testing.T) {
	store := newStore(t)
	b := openBackend(t, store)
	stored := commitFile(t, scratch(t, b), rootfs.CommitOptions{})
	s := scratch(t, b)
	if err := s.Push(t.Context(), stored); err != nil {
		t.Fatal(err)
	}
	if err := s.Guard().Held(); err != nil {
		t.Fatal(err)
	}
	if err := library(t, store).DeleteLayer(stored.ID); err == nil {
		t.Error("the layer was removed")
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := library(t, store).DeleteLayer(stored.ID); err != nil {
		t.Errorf("after the build: %v", err)
	}
}

func TestTooManyLayers(t *testing.T) {
	store := newStore(t)
	b := openBackend(t, store)
	stored := commitFile(t, scratch(t, b), rootfs.CommitOptions{})
	s := scratch(t, b)
	var err error
	for range overlay.MaxLayers {
		if err = s.Push(t.Context(), stored); err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "more than 498 layers") {
		t.Errorf("error %v", err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func TestUnknownImage(t *testing.T) {
	b := openBackend(t, newStore(t))
	if _, _, err := b.Image(t.Context(), "0123456789abcdef"); err == nil || !strings.Contains(err.Error(), "0123456789ab was removed") {
		t.Errorf("error %v", err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}
