package containers_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"go.podman.io/storage/pkg/mount"

	"codeberg.org/rbuild/rbuild/internal/cache"
	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func open(t *testing.T) *containers.Store {
	t.Helper()
	nstest.Need(t)
	dir := t.TempDir()
	s, err := containers.Open(containers.Options{GraphRoot: filepath.Join(dir, "root"), RunRoot: filepath.Join(dir, "run"), Driver: "overlay"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := mount.Unmount(filepath.Join(dir, "root", "overlay")); err != nil {
			t.Error(err)
		}
	})

	return s
}

// layer commits a layer that holds one file.
func layer(t *testing.T, s *containers.Store, parent commit.Layer, file, name string) commit.Layer {
	t.Helper()
	st, err := s.NewStaging()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(st.Upper, file), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}

	dir, err := os.Open(st.Upper)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	record, err := fdfs.Memfd("tar-split")
	if err != nil {
		t.Fatal(err)
	}
	tar, err := commit.WriteTar(t.Context(), dir, nil, commit.TarOptions{TarSplit: record})
	if err != nil {
		t.Fatal(err)
	}
	content := containers.Content{DiffID: tar.DiffID, Size: tar.Size, TarSplit: record, RootMode: tar.RootMode}
	l, err := st.Commit(content, parent.ID, name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func staging(t *testing.T, s *containers.Store) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.GraphRoot(), "overlay", "tempdirs"))
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestStagingBecomesLayer(t *testing.T) {
	s := open(t)
	key := cache.Base{Config: "x"}.ID()
	lower := layer(t, s, commit.Layer{}, "a", "")
	upper := layer(t, s, lower, "b", key.Name())

	chain, err := s.Chain(upper.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{lower.ID, upper.ID}, []string{chain[0].ID, chain[1].ID}); diff != "" {
		t.Errorf("chain (-want +got):\n%s", diff)
	}
	dirs, err := s.Directories(upper.ID)
	if err != nil {
		t.Fatal(err)
	}
	for i, file := range []string{"b", "a"} {
		if got, err := os.ReadFile(filepath.Join(dirs[i], file)); err != nil || string(got) != file {
			t.Errorf("layer %d: %q, %v", i, got, err)
		}
	}

	if got := staging(t, s); len(got) != 0 {
		t.Errorf("staging directories are left: %v", got)
	}
	on := func(layer string) cache.Parent {
		return func(context.Context) (string, error) { return layer, nil }
	}
	if e, ok, err := cache.Local(s).Get(t.Context(), key, on(upper.Parent)); err != nil || !ok || e.Layer.ID != upper.ID {
		t.Errorf("look-up: %v, %v, %v", e, ok, err)
	}
	if _, ok, _ := cache.Local(s).Get(t.Context(), key, on("another")); ok {
		t.Error("a layer was found for another parent")
	}
}

func TestNewestHasTheName(t *testing.T) {
	s := open(t)
	scratch := commit.Layer{}
	first := layer(t, s, scratch, "a", "name")
	second := layer(t, s, scratch, "b", "name")
	if l, _, err := s.LayerByName("name"); err != nil || l.ID != second.ID {
		t.Errorf("the name is of %s (%v), want %s", l.ID, err, second.ID)
	}
	if _, ok, err := s.LayerByName(first.ID); !ok || err != nil {
		t.Errorf("the first layer: %v, %v", ok, err)
	}
}

// A sweep of another process can take a staging directory that is just being made. It has to be a
// process: locks of fcntl(2) end when their process closes the file, wherever it does.
func TestStagingIsMadeAgain(t *testing.T) {
	s := open(t)
	sweeper := exec.Command(os.Args[0], "-test.run=^TestSweeper$")
	sweeper.Env = append(os.Environ(), sweepVar+"="+filepath.Join(s.GraphRoot(), "overlay", "tempdirs"))
	stop, err := sweeper.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sweeper.Start(); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		st, err := s.NewStaging()
		if err != nil {
			t.Error(err)
			break
		}
		if err := os.WriteFile(filepath.Join(st.Upper, "f"), nil, 0o600); err != nil {
			t.Error(err)
		}
		if err := st.Discard(); err != nil {
			t.Error(err)
		}
	}

	if err := errors.Join(stop.Close(), sweeper.Wait()); err != nil {
		t.Error(err)
	}
}

// sweepVar names, for the process of TestSweeper, the directory that it sweeps until its standard
// input ends.
const sweepVar = "RBUILD_TEST_SWEEP"

func TestSweeper(t *testing.T) {
	root := os.Getenv(sweepVar)
	if root == "" {
		t.Skip("the process of TestStagingIsMadeAgain")
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()

	for {
		select {
		case <-ended:
			return
		default:
		}
		if err := containers.Sweep(root); err != nil {
			t.Log(err) // what goes away while it is looked at
		}
		time.Sleep(time.Duration(rand.IntN(500)) * time.Microsecond)
	}
}

// TestImagesWithTheSameConfig records manifests that name the same config: none changes the record
// of another.
func TestImagesWithTheSameConfig(t *testing.T) {
	s := open(t)
	config := digest.FromString("{}")
	manifest := func(annotation, layers string) string {
		return fmt.Sprintf(`{"annotations":{"a":%q},"config":{"digest":%q},"layers":[%s]}`, annotation, config, layers)
	}
	put := func(manifest, name string) (id, stored string) {
		id, raw, err := s.PutImage(commit.Documents{Config: []byte("{}"), Manifest: []byte(manifest), Names: []string{name}})
		if err != nil {
			t.Fatal(err)
		}
		return id, string(raw)
	}

	plain, gzip := `{"mediaType":"x.tar","digest":"d","size":1}`, `{"mediaType":"x.tar+gzip","digest":"e","size":2}`
	one, two := manifest("1", gzip), manifest("2", plain)
	first, _ := put(one, "localhost/a:1")
	if first != config.Encoded() {
		t.Errorf("the first image has the ID %s, not the digest of its config", first)
	}
	second, stored := put(two, "localhost/b:1")
	if second == first || stored != two {
		t.Errorf("another manifest has the ID %s, and is %s", second, stored)
	}
	for _, tc := range []struct{ name, manifest, id, stored string }{
		{"the first again", one, first, one},
		{"the second again", two, second, two},
		{"the first without compression", manifest("1", plain), first, one},
		{"the second with compression", manifest("2", gzip), second, two},
		{"a third", manifest("3", plain), images.DerivedID(config, digest.FromString(manifest("3", plain))), manifest("3", plain)},
		{"one layer more", manifest("1", gzip+","+gzip), images.DerivedID(config, digest.FromString(manifest("1", gzip+","+gzip))), manifest("1", gzip+","+gzip)},
	} {
		if id, stored := put(tc.manifest, "localhost/again:1"); id != tc.id || stored != tc.stored {
			t.Errorf("%s: %s, %s", tc.name, id, stored)
		}
	}

	for name, want := range map[string]string{"localhost/a:1": one, "localhost/b:1": two} {
		if raw, err := s.Storage().ImageBigData(name, "manifest"); err != nil || string(raw) != want {
			t.Errorf("%s is %s now (%v)", name, raw, err)
		}
	}

	if img, err := s.Image(second); err != nil || img.ConfigDigest != config || img.ID != second {
		t.Errorf("read back: %+v, %v", img, err)
	}
	if _, err := containers.ByConfig(s.Storage(), config); !errors.Is(err, images.ErrSeveral) {
		t.Errorf("by the digest of the config: %v", err)
	}
	if _, err := s.Storage().DeleteImage(first, true); err != nil {
		t.Fatal(err)
	}
	if id, _ := put(two, "localhost/c:1"); id != second {
		t.Errorf("without the first the second has the ID %s", id)
	}
}

func TestPruningAndUseExclude(t *testing.T) {
	s := open(t)
	release, err := s.Use(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Exclusive(); !errors.Is(err, containers.ErrInUse) {
		t.Errorf("exclusive while in use: %v", err)
	}
	release()
	done, err := s.Exclusive()
	if err != nil {
		t.Fatal(err)
	}
	done()
}

func TestDiscard(t *testing.T) {
	s := open(t)
	st, err := s.NewStaging()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(st.Upper, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it does nothing
		if err := st.Discard(); err != nil {
			t.Fatal(err)
		}
	}

	if got := staging(t, s); len(got) != 0 {
		t.Errorf("staging directories are left: %v", got)
	}
}

func TestCloseSweepsWhatTheDeadLeft(t *testing.T) {
	s := open(t)
	root := filepath.Join(s.GraphRoot(), "overlay", "tempdirs")
	dead := filepath.Join(root, "rbuild-dead")
	if err := os.MkdirAll(filepath.Join(dead, "dir", "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dead, "staging.lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(root, "rbuild-half") // its removal was interrupted
	if err := os.MkdirAll(filepath.Join(half, "work"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := staging(t, s); len(got) != 0 {
		t.Errorf("staging directories are left: %v", got)
	}
}

// The library would take an empty link file for the directory of all links when it removes the
// layer.
func TestEmptyLinkIsMended(t *testing.T) {
	s := open(t)
	whole := layer(t, s, commit.Layer{}, "a", "")
	home := filepath.Join(s.GraphRoot(), "overlay")
	dead := filepath.Join(home, strings.Repeat("d", 64))
	for _, dir := range []string{dead, filepath.Join(home, "tempdirs", "rbuild-dead")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}

	if err := os.WriteFile(filepath.Join(dead, "link"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := containers.MendLinks(s.GraphRoot(), false); err != nil {
		t.Fatal(err)
	}
	driver, err := s.Storage().GraphDriver()
	if err != nil {
		t.Fatal(err)
	}
	if err := driver.Remove(filepath.Base(dead)); err != nil {
		t.Fatal(err)
	}
	id, err := os.ReadFile(filepath.Join(home, whole.ID, "link"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(home, "l", string(id))); err != nil {
		t.Errorf("the link of another layer is gone: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	nstest.Need(t)
	for name, o := range map[string]containers.Options{
		"driver":     {Driver: "vfs"},
		"composefs":  {Driver: "overlay", DriverOptions: []string{"overlay.use_composefs=true"}},
		"force_mask": {Driver: "overlay", DriverOptions: []string{"overlay.force_mask=755"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Cleanup(func() { _ = mount.Unmount(filepath.Join(dir, "root", "overlay")) })
			o.GraphRoot, o.RunRoot = filepath.Join(dir, "root"), filepath.Join(dir, "run")
			if s, err := containers.Open(o); err == nil {
				_ = s.Close()
				t.Fatal("opened")
			}
		})
	}
}
