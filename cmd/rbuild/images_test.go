package main

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/engine"
	"codeberg.org/rbuild/rbuild/internal/images"
)

// stubStore is a store of images in memory: a third store beside containers/storage and the layout.
// Its ListImages fills everything; methods that the commands under test do not call panic.
type stubStore struct {
	engine.ImageStore

	images  []images.Image
	configs map[string]ocispec.Image
	removed []string
}

func (s *stubStore) ListImages() ([]images.Image, error) { return slices.Clone(s.images), nil }

func (s *stubStore) ResolveImage(ref string) (images.Image, error) {
	for _, img := range s.images {
		if strings.HasPrefix(img.ID, ref) || slices.Contains(img.Names, ref) {
			return img, nil
		}
	}
	return images.Image{}, images.ErrNotFound
}

func (s *stubStore) ReadImage(id string) (images.Content, error) {
	config, err := json.Marshal(s.configs[id])
	return images.Content{Config: config, Manifest: []byte("{}"), Driver: "stub"}, err
}

func (s *stubStore) NameImage(id string, names []string) ([]byte, error) {
	for i := range s.images {
		if s.images[i].ID == id {
			s.images[i].Names = append(s.images[i].Names, names...)
		}
	}
	return []byte("{}"), nil
}

func (s *stubStore) RemoveImage(id string, what images.Removal) error {
	for i, img := range s.images {
		if img.ID != id {
			continue
		}
		if img.InUse && !what.Force {
			return &images.InUseError{Image: id, Container: "c1"}
		}
		if what.Name != "" {
			s.images[i].Names = slices.DeleteFunc(slices.Clone(img.Names), func(n string) bool { return n == what.Name })
			return nil
		}
		s.removed = append(s.removed, id)
		s.images = slices.Delete(s.images, i, i+1)
		return nil
	}
	return images.ErrNotFound
}

// testStore has an image and a child of the image by layers and history, and an image with layers
// of its own.
func testStore() *stubStore {
	at := func(n int64) time.Time { return time.Unix(n, 0).UTC() }
	step := func(text string) ocispec.History { return ocispec.History{CreatedBy: text} }
	one := images.Usage{Size: 1000, Layers: []string{"l1"}}
	return &stubStore{
		images: []images.Image{
			{ID: "aaa1", Created: at(1), Usage: one},
			{
				ID: "bbb2", Created: at(2), Names: []string{"localhost/child:latest", "registry.example/team/app:1.0"},
				Usage: images.Usage{Size: 1500, Layers: []string{"l2", "l1"}},
			},
			{ID: "ccc3", Created: at(3), Usage: images.Usage{Size: 7, Layers: []string{"m1"}}},
			{ID: "ddd4", Created: at(4), Names: []string{"localhost/empty:1"}, Usage: one},
		},
		configs: map[string]ocispec.Image{
			"aaa1": {History: []ocispec.History{step("one")}},
			"bbb2": {
				History: []ocispec.History{step("one"), step("two")},
				Config:  ocispec.ImageConfig{Labels: map[string]string{"k": "v"}},
			},
			"ccc3": {History: []ocispec.History{step("one")}},
			"ddd4": {History: []ocispec.History{step("other")}},
		},
	}
}

func testList(t *testing.T, stores ...engine.ImageStore) *imageList {
	t.Helper()
	l, err := listImages(stores)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestImageFilters(t *testing.T) {
	for _, tc := range []struct {
		args string // separated by spaces
		want string
	}{
		{"", "aaa1 bbb2 ccc3 ddd4"},
		{"dangling=true", "ccc3"},
		{"dangling=false", "aaa1 bbb2 ddd4"},
		{"intermediate=true", "aaa1"},
		{"id=bb", "bbb2"},
		{"id=bb id=cc", "bbb2 ccc3"},
		{"label=k", "bbb2"},
		{"label=k=v", "bbb2"},
		{"label=k=w", ""},
		{"label!=k", "aaa1 ccc3 ddd4"},
		{"reference=child", "bbb2"},
		{"reference=localhost/*:*", "bbb2 ddd4"},
		{"reference=app:1.0", "bbb2"},
		{"reference=team/app", "bbb2"},
		{"reference=app:2", ""},
		{"reference=*", "bbb2 ddd4"},
		{"reference=* id=d", "ddd4"},
		{"readonly=true", ""},
	} {
		t.Run(tc.args, func(t *testing.T) {
			l := testList(t, testStore())
			keep, err := l.filters(strings.Fields(tc.args), images.Names{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, img := range slices.Backward(l.images) {
				if keep(img) {
					got = append(got, img.ID)
				}
			}
			if diff := cmp.Diff(tc.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}

	for _, bad := range []string{"dangling", "dangling=perhaps", "colour=red", "=x"} {
		if _, err := testList(t, testStore()).filters([]string{bad}, images.Names{}); err == nil {
			t.Errorf("accepted --filter %s", bad)
		}
	}
}

// TestImageRows: each name of an image has a line with the digest of its own registry.
func TestImageRows(t *testing.T) {
	child := &listed{Image: testStore().images[1], read: true}
	for _, name := range child.Names {
		child.origins = append(child.origins, images.Origin{Name: name, Digest: digest.FromString(name)})
	}

	var got []string
	for _, r := range child.rows(true) {
		got = append(got, r.Repository+" "+r.Tag+" "+r.ID+" "+r.Size)
		if want := digest.FromString(r.Repository + ":" + r.Tag); r.Digest != want.String() {
			t.Errorf("%s:%s has the digest %s, want that of its own name", r.Repository, r.Tag, r.Digest)
		}
	}
	want := []string{"localhost/child latest bbb2 1.5kB", "registry.example/team/app 1.0 bbb2 1.5kB"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	unnamed := (&listed{Image: images.Image{ID: "aaa1"}, read: true}).rows(false)
	if len(unnamed) != 1 || unnamed[0].Repository != none || unnamed[0].Tag != none || unnamed[0].ID != "sha256:aaa1" {
		t.Errorf("an image without a name: %+v", unnamed)
	}
}

// TestSortStores: --sort orders the images of all stores together.
func TestSortStores(t *testing.T) {
	image := func(id, name string, hour int, size int64) *stubStore {
		created := time.Date(2024, 1, 1, hour, 0, 0, 0, time.UTC)
		return &stubStore{images: []images.Image{{ID: id, Names: []string{name}, Created: created, Usage: images.Usage{Size: size}}}}
	}

	for order, want := range map[string]string{
		"created":    "c1\na2\nb3\n",
		"id":         "a2\nb3\nc1\n",
		"size":       "b3\nc1\na2\n",
		"repository": "b3\nc1\na2\n",
		"tag":        "b3\nc1\na2\n",
	} {
		stores := engine.Stores{
			image("b3", "localhost/a:1", 1, 5), image("a2", "localhost/c:3", 2, 7), image("c1", "localhost/b:2", 3, 6),
		}
		var out strings.Builder
		f := imagesFlags{sort: order, quiet: true}
		if err := f.list(&out, stores, nil, images.Names{}); err != nil || out.String() != want {
			t.Errorf("--sort %s: %q, %v; want %q", order, out.String(), err, want)
		}
		out.Reset()
		f = imagesFlags{sort: order, noHeading: true, format: "{{.ID}}"}
		if err := f.list(&out, stores, nil, images.Names{}); err != nil || out.String() != want {
			t.Errorf("--sort %s, rows: %q, %v; want %q", order, out.String(), err, want)
		}
	}
}

// TestListArgument: an argument selects the image of that name in each store, and in a store
// without such an image the images whose names match.
func TestListArgument(t *testing.T) {
	second := &stubStore{images: []images.Image{{ID: "eee5", Names: []string{"localhost/x/child:2"}}}}
	for arg, want := range map[string]string{
		"child": "bbb2\neee5\n", "localhost/child:latest": "bbb2\n", "ddd4": "ddd4\n", "x/*": "eee5\n", "nothing": "",
	} {
		var out strings.Builder
		err := imagesFlags{sort: "created", quiet: true}.list(&out, engine.Stores{testStore(), second}, []string{arg}, images.Names{})
		if out.String() != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, images.ErrNotFound) {
			t.Errorf("%s: %q, %v; want %q", arg, out.String(), err, want)
		}
	}
}

// TestLookupInStores: the first store counts, then the next.
func TestLookupInStores(t *testing.T) {
	first := testStore()
	second := &stubStore{images: []images.Image{{ID: "bbb9", Names: []string{"localhost/child:latest", "localhost/only:1"}}}}
	stores := engine.Stores{first, second}
	for name, want := range map[string]string{"child": "bbb2", "only:1": "bbb9", "bbb9": "bbb9", "bbb": "bbb2"} {
		_, img, _, err := stores.Lookup(name, images.Names{})
		if err != nil || img.ID != want {
			t.Errorf("%s is %s, want %s (%v)", name, img.ID, want, err)
		}
	}
	if _, _, _, err := stores.Lookup("nothing", images.Names{}); !errors.Is(err, images.ErrNotFound) {
		t.Errorf("nothing: %v", err)
	}
}

// TestRemover: rbuild rmi removes names and images where they are, and says why an image stays.
func TestRemover(t *testing.T) {
	for _, tc := range []struct {
		name  string
		force bool
		want  string // output
		err   string // a part of the error; "": none
	}{
		{name: "child", want: "untagged: localhost/child:latest\n"},
		{name: "empty:1", want: "untagged: localhost/empty:1\nddd4\n"},
		{name: "bbb2", err: "has several names"},
		{name: "bbb2", force: true, want: "untagged: localhost/child:latest\nuntagged: registry.example/team/app:1.0\nbbb2\n"},
		{name: "used:1", err: "image eee5 is used by container c1: remove that with podman or buildah, or use --force"},
		{name: "used:1", force: true, want: "untagged: localhost/used:1\neee5\n"},
		{name: "nothing", err: "no such image"},
	} {
		used := images.Image{ID: "eee5", Names: []string{"localhost/used:1"}, Usage: images.Usage{InUse: true}}
		stores := engine.Stores{testStore(), &stubStore{images: []images.Image{used}}}
		var out strings.Builder
		err := remover{stores: stores, force: tc.force, out: &out}.byName(tc.name)
		if out.String() != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s, force %t: %q, %v", tc.name, tc.force, out.String(), err)
		}
	}
}

// TestRemoveIf: removing the child makes the image below dangling, so that it is removed as well.
func TestRemoveIf(t *testing.T) {
	st := testStore()
	st.images[1].Names = nil
	if err := (remover{stores: engine.Stores{st}, out: io.Discard}).removeIf((*imageList).dangling); err != nil {
		t.Fatal(err)
	}
	slices.Sort(st.removed)
	if diff := cmp.Diff([]string{"aaa1", "bbb2", "ccc3"}, st.removed); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestInspectStub: inspect shows an image of any store.
func TestInspectStub(t *testing.T) {
	st := testStore()
	info, err := inspectImage(st, st.images[1], "localhost/child:latest")
	if err != nil {
		t.Fatal(err)
	}
	if info.ID != "bbb2" || info.FromImage != "localhost/child:latest" || info.GraphDriver.Name != "stub" || info.Labels["k"] != "v" {
		t.Errorf("%+v", info)
	}
}

func TestHistoryRow(t *testing.T) {
	step := historyStep{ID: strings.Repeat("a", 64), CreatedBy: "RUN  echo\t" + strings.Repeat("ä", 60), Size: 1500}
	short := historyFlags{human: true}.row(step)
	if len(short.ID) != 12 || len([]rune(short.CreatedBy)) != 45 || short.Size != "1.5kB" {
		t.Errorf("%+v", short)
	}
	long := historyFlags{noTrunc: true}.row(step)
	if len(long.ID) != 64 || strings.Contains(long.CreatedBy, "…") || long.Size != "1500" {
		t.Errorf("%+v", long)
	}
}

func TestTags(t *testing.T) {
	img := images.Image{Names: []string{"localhost/a:1", "localhost/a:2", "localhost/b@sha256:" + strings.Repeat("0", 64)}}
	if diff := cmp.Diff([]string{"localhost/a:1", "localhost/a:2"}, tags(img)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestConfirm(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "Yes\n": true, "y": true, "": false, "\n": false, "n\n": false, "yy\n": false} {
		var out strings.Builder
		got, err := confirm(strings.NewReader(answer), &out, "Really?")
		if err != nil || got != want || out.String() != "Really?\nGo on? [y/N] " {
			t.Errorf("%q: %t, %v, shown %q", answer, got, err, out.String())
		}
	}
}

func TestWriteRows(t *testing.T) {
	rows := []imageRow{{ID: "1", Repository: "a"}, {ID: "2", Repository: "bb"}}
	for format, want := range map[string]string{
		"{{.ID}}":                        "1\n2\n",
		"{{.ID}} {{upper .Repository}}":  "1 A\n2 BB\n",
		"table {{.Repository}}\t{{.ID}}": "REPOSITORY  IMAGE ID\na           1\nbb          2\n",
		`{{.ID}}\t{{.Repository}}`:       "1\ta\n2\tbb\n",
	} {
		var out strings.Builder
		if err := cli.WriteRows(&out, format, rows, imageRow{}, map[string]string{"ID": "IMAGE ID"}); err != nil {
			t.Errorf("%s: %v", format, err)
		}
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}

	for _, bad := range []string{"{{.ID", "{{.NoSuchField}}"} {
		if err := cli.WriteRows(&strings.Builder{}, bad, rows, imageRow{}, nil); err == nil || !strings.Contains(err.Error(), "--format") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
