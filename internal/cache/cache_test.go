package cache

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// fakeLayers is a store of layers by name and by ID.
type fakeLayers struct {
	layers map[string]containers.Layer
	notes  map[string][]byte
	err    error
	named  []string // "ID name", in order
}

func (f *fakeLayers) LayerByName(name string) (containers.Layer, bool, error) {
	l, ok := f.layers[name]
	return l, ok, f.err
}

func (f *fakeLayers) NameLayer(id, name string) error {
	f.named = append(f.named, id+" "+name)
	return f.err
}

func (f *fakeLayers) Notes(id string) ([]byte, error) {
	if notes, ok := f.notes[id]; ok {
		return notes, nil
	}
	return nil, errors.New("no notes")
}

const id ID = "1f0c"

func on(layer string) Parent {
	return func(context.Context) (string, error) { return layer, nil }
}

func TestLocalGet(t *testing.T) {
	layer := containers.Layer{Layer: commit.Layer{ID: "l", Parent: "p", DiffID: "sha256:00"}}
	noted := layer
	noted.Noted = true
	unread := noted
	unread.DiffID = ""
	broken := errors.New("broken")

	for _, tc := range []struct {
		name   string
		layer  containers.Layer
		parent string
		notes  map[string][]byte
		err    error
		want   *Entry
	}{
		{name: "found", layer: layer, parent: "p", want: &Entry{Layer: layer.Layer}},
		{name: "on another layer", layer: layer, parent: "q"},
		{name: "on nothing", layer: layer, parent: ""},
		{name: "the parent itself", layer: layer, parent: "l", want: &Entry{Layer: layer.Layer, Unchanged: true}},
		{name: "without a digest", layer: unread, parent: "p"},
		{name: "with notes", layer: noted, parent: "p", notes: map[string][]byte{"l": []byte("n")}, want: &Entry{Layer: noted.Layer, Notes: []byte("n")}},
		{name: "the parent's notes", layer: noted, parent: "l", notes: map[string][]byte{"l": []byte("n")}, want: &Entry{Layer: noted.Layer, Unchanged: true}},
		{name: "notes that cannot be read", layer: noted, parent: "p", want: &Entry{Layer: noted.Layer}},
		{name: "a store that fails", layer: layer, parent: "p", err: broken},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := Local(&fakeLayers{layers: map[string]containers.Layer{"rbuild-cache-1f0c": tc.layer}, notes: tc.notes, err: tc.err})
			got, ok, err := c.Get(t.Context(), id, on(tc.parent))
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if ok != (tc.want != nil) {
				t.Fatalf("found: %v", ok)
			}
			if tc.want == nil {
				return
			}
			if diff := cmp.Diff(*tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLocalPut(t *testing.T) {
	for _, tc := range []struct {
		name  string
		layer commit.Layer
		want  []string
	}{
		{"a new name", commit.Layer{ID: "l", Names: []string{"other"}}, []string{"l rbuild-cache-1f0c"}},
		{"stored with the name", commit.Layer{ID: "l", Names: []string{"rbuild-cache-1f0c"}}, nil},
		{"scratch", commit.Layer{}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			store := &fakeLayers{}
			if err := Local(store).Put(t.Context(), id, Entry{Layer: tc.layer}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, store.named); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}

	broken := errors.New("broken")
	gone := func(context.Context) (string, error) { return "", broken }
	if _, _, err := Local(&fakeLayers{}).Get(t.Context(), id, gone); !errors.Is(err, broken) {
		t.Errorf("error %v, want that of the parent", err)
	}
	if err := Local(&fakeLayers{err: broken}).Put(t.Context(), id, Entry{Layer: commit.Layer{ID: "l"}}); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
}

// fakeCache has one entry and counts.
type fakeCache struct {
	entry Entry
	puts  int
}

func (f *fakeCache) Get(context.Context, ID, Parent) (Entry, bool, error) { return f.entry, true, nil }
func (f *fakeCache) Put(context.Context, ID, Entry) error                 { f.puts++; return nil }

func TestCachesOfCaches(t *testing.T) {
	old := &fakeCache{entry: Entry{Layer: commit.Layer{ID: "l", Created: time.Now().Add(-time.Hour)}}}
	unchanged := &fakeCache{entry: old.entry}
	unchanged.entry.Unchanged = true
	for _, tc := range []struct {
		name  string
		cache Cache
		hit   bool
		puts  int
	}{
		{"none", None(), false, 0},
		{"put only", PutOnly(old), false, 1},
		{"young enough", MaxAge(old, 2*time.Hour), true, 1},
		{"too old", MaxAge(old, time.Minute), false, 1},
		{"any age", MaxAge(old, 0), true, 1},
		{"an unchanged parent has no age", MaxAge(unchanged, time.Minute), true, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			old.puts = 0
			if _, ok, err := tc.cache.Get(t.Context(), id, nil); ok != tc.hit || err != nil {
				t.Errorf("found: %v, %v", ok, err)
			}
			if err := tc.cache.Put(t.Context(), id, Entry{}); err != nil || old.puts != tc.puts {
				t.Errorf("%d puts, %v", old.puts, err)
			}
		})
	}
}
