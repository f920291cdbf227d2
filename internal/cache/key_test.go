package cache

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// example has a value in every field.
func example() Key {
	return Key{
		Parent: Base{Config: "x"}.ID(), Step: "RUN a", Args: []string{"A=1"}, Content: []string{"sha256:00"},
		Platform: Platform{OS: "linux", Architecture: "arm", Variant: "v7"}, Times: Times{Set: true, Epoch: 1},
		Process: process{Network: "none"},
	}
}

// process is an example of a ProcessKey.
type process struct{ Network string }

func (process) ProcessKey() {}

// TestEveryFieldChangesTheID changes one field after the other, in an empty key and in a full key.
func TestEveryFieldChangesTheID(t *testing.T) {
	for name, key := range map[string]Key{"empty": {}, "full": example()} {
		seen := map[ID]string{key.ID(): "the unchanged key"}
		leaves(reflect.ValueOf(&key).Elem(), "", func(path string, v reflect.Value) {
			before := reflect.New(v.Type()).Elem()
			before.Set(v)
			change(t, v)
			if other, ok := seen[key.ID()]; ok {
				t.Errorf("%s key: another %s gives the ID of %s", name, path, other)
			}
			seen[key.ID()] = path
			v.Set(before)
		})
	}
}

// TestGolden pins IDs: a change that was not intended would lose the caches of all users. After an intended change raise the
// version in salt.
func TestGolden(t *testing.T) {
	for _, tc := range []struct {
		name string
		got  ID
		want ID
	}{
		{"scratch", Base{}.ID(), "7e60007df9019d7d5bde8987c2f54b074f36b11a0999e4b7b0ac2d0bf2b88bf5"},
		{"base", Base{Config: "x"}.ID(), "810f95803aa6cbd395918840ce81e748d484344da835fe5e4fa8add02b41d5eb"},
		{"empty key", Key{}.ID(), "412787d630ceb2dfbcd3c9442ba7eabeda308ea43f04b3f84a55c263faa4b22d"},
		{"full key", example().ID(), "2a9c7701c9e840ace615a25d1c284c5ceed3b6a63b60712d7e5b711b37624b5d"},
		{"squash", Squash{Layers: []string{"sha256:00", "sha256:01"}, Times: Times{Clamp: true, Epoch: 5}}.ID(), "63a679a9c8e8e06501aeaf24111c98e00c442b586b9ae9b8e833666d79003e41"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, tc.got, tc.want)
		}
	}
}

func TestUnknownIsNeverTheSame(t *testing.T) {
	first := Unknown()
	if second := Unknown(); first == second {
		t.Error("two unknown results have the same ID")
	}
}

// TestDocumented fails for a field of Key or Ambient that docs/cache.md does not name.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/cache.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range []any{Key{}, Squash{}, Ambient} {
		typ := reflect.TypeOf(of)
		for field := range typ.Fields() {
			if name := "`" + field.Name + "`"; !strings.Contains(string(text), name) {
				t.Errorf("docs/cache.md does not name %s of %s", name, typ)
			}
		}
	}
}

func TestEveryReasonIsGiven(t *testing.T) {
	for field, reason := range reflect.ValueOf(Ambient).Fields() {
		if reason.String() == "" {
			t.Errorf("%s has no reason", field.Name)
		}
	}
}
