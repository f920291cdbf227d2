// Package rootfstest has the tests that every rootfs.Backend must pass, and an OCI layout in memory.
package rootfstest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// Test runs the tests that do not depend on how a backend keeps files. open returns a new backend for each test, which the
// test closes.
func Test(t *testing.T, open func(t *testing.T) rootfs.Backend) {
	for name, test := range map[string]func(*testing.T, rootfs.Backend){
		"scratch is empty":               testScratch,
		"layers add up":                  testLayers,
		"a clone is apart":               testClone,
		"a cloned stack does not grow":   testCloned,
		"a stored layer is put on top":   testPush,
		"a removed layer is not found":   testPushRemoved,
		"a discarded layer changes none": testDiscard,
		"an open layer can be viewed":    testOpenLayer,
		"apart from the layers below":    testApart,
		"times are set":                  testTimes,
		"all files as one layer":         testFlatten,
		"a failed check ends flatten":    testFlattenCheck,
		"temporary files":                testTempDir,
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			test(t, b)
			check(t, b.Close())
		})
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func scratch(t *testing.T, b rootfs.Backend) rootfs.Stack {
	t.Helper()
	s, err := b.Scratch()
	check(t, err)
	return s
}

// Write creates a file in the root directory of a layer.
func Write(t *testing.T, l rootfs.Layer, name, text string) {
	t.Helper()
	root, err := l.Root(t.Context())
	check(t, err)
	write(t, root, name, text)
}

func write(t *testing.T, root fdfs.Dir, name, text string) {
	t.Helper()
	f, err := root.Create(name, int64(len(text)))
	check(t, err)
	_, err = io.WriteString(f, text)
	check(t, errors.Join(err, f.SetAttributes(fdfs.Attributes{Mode: new(uint32(0o644))}), f.Close(), root.Close()))
}

// add makes a layer with one file and waits for it.
func add(t *testing.T, s rootfs.Stack, name, text string, o rootfs.CommitOptions) commit.Layer {
	t.Helper()
	l, err := s.Begin(t.Context())
	check(t, err)
	Write(t, l, name, text)
	job, err := l.Commit(t.Context(), o)
	check(t, err)
	stored, err := job.Wait(t.Context())
	check(t, err)
	return stored
}

// Files lists the files of a stack as "name=content time".
func Files(t *testing.T, s rootfs.Stack) []string {
	t.Helper()
	var out bytes.Buffer
	_, err := s.Tar(t.Context(), &out, commit.TarOptions{})
	check(t, err)
	return list(t, &out)
}

func list(t *testing.T, r io.Reader) (files []string) {
	t.Helper()
	for in := tar.NewReader(r); ; {
		hdr, err := in.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		check(t, err)
		data, err := io.ReadAll(in)
		check(t, err)
		files = append(files, strings.TrimPrefix(hdr.Name, "./")+"="+string(data))
	}
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func testScratch(t *testing.T, b rootfs.Backend) {
	s := scratch(t, b)
	want(t, Files(t, s))
	if n := len(s.Layers()); n > 0 {
		t.Errorf("%d layers", n)
	}

	root, err := s.View(t.Context())
	check(t, err)
	st, err := root.Stat(".")
	check(t, errors.Join(err, root.Close()))
	if st.Mode != 0o755 || st.UID != 0 || st.GID != 0 {
		t.Errorf("the root directory is %+v", st)
	}

	g := s.Guard()
	g.Hold()
	check(t, errors.Join(g.Held(), g.Check()))
}

func testLayers(t *testing.T, b rootfs.Backend) {
	s := scratch(t, b)
	first := add(t, s, "a", "1", rootfs.CommitOptions{})
	second := add(t, s, "b", "2", rootfs.CommitOptions{})
	want(t, Files(t, s), "a=1", "b=2")

	if first.DiffID == second.DiffID || first.DiffID == "" {
		t.Errorf("DiffIDs %s and %s", first.DiffID, second.DiffID)
	}
	var ids []digest.Digest
	for _, job := range s.Layers() {
		l, err := job.Wait(t.Context())
		check(t, err)
		ids = append(ids, l.DiffID)
	}
	if diff := cmp.Diff([]digest.Digest{first.DiffID, second.DiffID}, ids); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	check(t, s.Guard().Check())
}

func testClone(t *testing.T, b rootfs.Backend) {
	s := scratch(t, b)
	add(t, s, "a", "1", rootfs.CommitOptions{})
	one := s.Clone()
	other := s.Clone()
	add(t, one, "b", "2", rootfs.CommitOptions{})
	add(t, other, "c", "3", rootfs.CommitOptions{})
	want(t, Files(t, s), "a=1")
	want(t, Files(t, one), "a=1", "b=2")
	want(t, Files(t, other), "a=1", "c=3")
}

// testCloned has an open layer while the stack is cloned.
func testCloned(t *testing.T, b rootfs.Backend) {
	s := scratch(t, b)
	stored := add(t, s, "a", "1", rootfs.CommitOptions{})
	open, err := s.Begin(t.Context())
	check(t, err)
	clone := s.Clone()

	if _, err := s.Begin(t.Context()); !errors.Is(err, rootfs.ErrCloned) {
		t.Errorf("Begin: error %v, want %v", err, rootfs.ErrCloned)
	}
	if err := s.Push(t.Context(), stored); !errors.Is(err, rootfs.ErrCloned) {
		t.Errorf("Push: error %v, want %v", err, rootfs.ErrCloned)
	}
	if _, err := open.Commit(t.Context(), rootfs.CommitOptions{}); !errors.Is(err, rootfs.ErrCloned) {
		t.Errorf("Commit: error %v, want %v", err, rootfs.ErrCloned)
	}
	want(t, Files(t, s), "a=1")
	add(t, clone, "b", "2", rootfs.CommitOptions{})
	want(t, Files(t, clone), "a=1", "b=2")
}

// testPush puts a layer of one stack on another stack.
func testPush(t *testing.T, b rootfs.Backend) {
	stored := add(t, scratch(t, b), "a", "1", rootfs.CommitOptions{})
	s := scratch(t, b)
	check(t, s.Push(t.Context(), stored))
	want(t, Files(t, s), "a=1")

	add(t, s, "b", "2", rootfs.CommitOptions{})
	want(t, Files(t, s), "a=1", "b=2")
	found, ok := s.Layers()[0].Found()
	if !ok || found.DiffID != stored.DiffID || len(s.Layers()) != 2 {
		t.Errorf("%d layers, the lowest %+v", len(s.Layers()), found)
	}
}

func testPushRemoved(t *testing.T, b rootfs.Backend) {
	removed := commit.Layer{ID: "removed", DiffID: digest.FromString("removed")}
	s := scratch(t, b)
	if err := s.Push(t.Context(), removed); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want %v", err, fs.ErrNotExist)
	}
	want(t, Files(t, s))
	if len(s.Layers()) > 0 {
		t.Error("the stack has a layer that does not exist")
	}
}

func testDiscard(t *testing.T, b rootfs.Backend) {
	s := scratch(t, b)
	add(t, s, "a", "1", rootfs.CommitOptions{})
	l, err := s.Begin(t.Context())
	check(t, err)
	check(t, l.Discard())
	want(t, Files(t, s), "a=1")
	if n := len(s.Layers()); n != 1 {
		t.Errorf("%d layers", n)
	}
}

func testOpenLayer(t *testing.T, b rootfs.Backend) {
	s := scratch(t, b)
	add(t, s, "a", "1", rootfs.CommitOptions{})
	l, err := s.Begin(t.Context())
	check(t, err)
	for _, step := range []string{"b", "c"} {
		Write(t, l, step, "2")
		view, err := l.View(t.Context())
		check(t, err)
		names, err := view.Names()
		check(t, errors.Join(err, view.Close()))
		if !slices.Contains(names, "a") || !slices.Contains(names, step) {
			t.Errorf("the view has %q", names)
		}
	}

	job, err := l.Commit(t.Context(), rootfs.CommitOptions{})
	check(t, err)
	_, err = job.Wait(t.Context())
	check(t, err)
	want(t, Files(t, s), "a=1", "b=2", "c=2")
}

func testApart(t *testing.T, b rootfs.Backend) {
	alone := addApart(t, scratch(t, b), "b", "2")

	s := scratch(t, b)
	add(t, s, "a", "1", rootfs.CommitOptions{Times: rootfs.Times{Epoch: &epoch}})
	onTop := addApart(t, s, "b", "2")
	want(t, Files(t, s), "a=1", "b=2")
	if alone.DiffID != onTop.DiffID {
		t.Errorf("the layer depends on those below: %s and %s", alone.DiffID, onTop.DiffID)
	}
}

var epoch = time.Unix(7, 0)

func addApart(t *testing.T, s rootfs.Stack, name, text string) commit.Layer {
	t.Helper()
	l, err := s.Begin(t.Context())
	check(t, err)
	root, err := l.Apart(t.Context())
	check(t, err)
	names, err := root.Names()
	check(t, err)
	if len(names) > 0 {
		t.Errorf("the root directory shows %q", names)
	}

	write(t, root, name, text)
	job, err := l.Commit(t.Context(), rootfs.CommitOptions{Times: rootfs.Times{Epoch: &epoch}})
	check(t, err)
	stored, err := job.Wait(t.Context())
	check(t, err)
	return stored
}

func testTimes(t *testing.T, b rootfs.Backend) {
	for _, clamp := range []bool{false, true} {
		s := scratch(t, b)
		add(t, s, "a", "1", rootfs.CommitOptions{Times: rootfs.Times{Epoch: &epoch, Clamp: clamp}})
		view, err := s.View(t.Context())
		check(t, err)
		st, err := view.Stat("a")
		check(t, errors.Join(err, view.Close()))
		if st.Mtime.Sec != epoch.Unix() {
			t.Errorf("clamp %v: the time is %d", clamp, st.Mtime.Sec)
		}
	}
}

func testFlatten(t *testing.T, b rootfs.Backend) {
	s := scratch(t, b)
	add(t, s, "a", "1", rootfs.CommitOptions{})
	add(t, s, "b", "2", rootfs.CommitOptions{})
	checked := false
	o := rootfs.FlattenOptions{
		Times: rootfs.Times{Epoch: &epoch},
		Check: func() error { checked = true; return nil },
	}
	first, err := s.Flatten(t.Context(), o)
	check(t, err)
	second, err := s.Flatten(t.Context(), o)
	check(t, err)
	if !checked || first.DiffID == "" || first.DiffID != second.DiffID {
		t.Errorf("checked: %v, DiffIDs %s and %s", checked, first.DiffID, second.DiffID)
	}
	want(t, Files(t, s), "a=1", "b=2")
}

func testFlattenCheck(t *testing.T, b rootfs.Backend) {
	s := scratch(t, b)
	add(t, s, "a", "1", rootfs.CommitOptions{})
	removed := errors.New("removed")
	_, err := s.Flatten(t.Context(), rootfs.FlattenOptions{Check: func() error { return removed }})
	if !errors.Is(err, removed) {
		t.Errorf("error %v", err)
	}
}

func testTempDir(t *testing.T, b rootfs.Backend) {
	name := b.TempDir() + "/file"
	check(t, os.WriteFile(name, nil, 0o600))
	t.Cleanup(func() {
		if _, err := os.Lstat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Close has left the file: %v", err)
		}
	})
}

// Layout is an OCI layout in memory (memory.Images).
type Layout struct {
	Dir     string // for temporary files
	Configs map[string][]byte
	Layers  map[string][]ocispec.Descriptor // of the images, by ID
	Blobs   map[digest.Digest][]byte
	Err     error // of the next call; nil: none
}

// NewLayout returns an empty layout.
func NewLayout(t *testing.T) *Layout {
	return &Layout{
		Dir: t.TempDir(), Configs: map[string][]byte{}, Layers: map[string][]ocispec.Descriptor{},
		Blobs: map[digest.Digest][]byte{},
	}
}

// Image returns a config and the descriptors of layers.
func (l *Layout) Image(id string) ([]byte, []ocispec.Descriptor, error) {
	config, ok := l.Configs[id]
	if !ok {
		return nil, nil, fmt.Errorf("no image %s", id)
	}
	return config, l.Layers[id], l.Err
}

// Annotations returns an example.
func (l *Layout) Annotations(id string) (map[string]string, error) {
	return map[string]string{"id": id}, l.Err
}

// Layer opens a blob.
func (l *Layout) Layer(_ context.Context, kept ocispec.Descriptor, _ digest.Digest) (io.ReadCloser, error) {
	data, ok := l.Blobs[kept.Digest]
	if !ok {
		return nil, fmt.Errorf("no blob %s: %w", kept.Digest, fs.ErrNotExist)
	}
	return io.NopCloser(bytes.NewReader(data)), l.Err
}

// PutLayer keeps a blob.
func (l *Layout) PutLayer(write func(w io.Writer) (digest.Digest, error)) error {
	var out bytes.Buffer
	sum, err := write(&out)
	if err := errors.Join(err, l.Err); err != nil {
		return err
	}
	l.Blobs[sum] = out.Bytes()
	return nil
}

// NewScratch makes a temporary directory.
func (l *Layout) NewScratch() (string, func() error, error) {
	dir, err := os.MkdirTemp(l.Dir, "")
	return dir, func() error { return os.RemoveAll(dir) }, errors.Join(err, l.Err)
}
