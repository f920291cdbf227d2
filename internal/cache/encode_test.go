package cache

import (
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
)

// group has a field of every kind that a key may hold.
type group struct {
	Text    string
	Other   string
	Flag    bool
	Signed  int
	Size    uint32
	List    []string
	Lists   [][]string
	Map     map[string]string
	Address netip.Addr
	Pointer *bool
	Inner   inner
	Any     any
}

type inner struct{ A, B string }

func TestEncodingsDiffer(t *testing.T) {
	no := false
	values := map[string]any{
		"empty":              group{},
		"text":               group{Text: "a"},
		"another field":      group{Other: "a"},
		"both":               group{Text: "a", Other: "a"},
		"swapped":            group{Text: "a", Other: "b"},
		"and back":           group{Text: "b", Other: "a"},
		"flag":               group{Flag: true},
		"number":             group{Signed: 1},
		"negative number":    group{Signed: -1},
		"size":               group{Size: 1},
		"list":               group{List: []string{"a"}},
		"list of empty text": group{List: []string{""}},
		"two of empty text":  group{List: []string{"", ""}},
		"longer list":        group{List: []string{"a", "b"}},
		"joined list":        group{List: []string{"ab"}},
		"looks like frames":  group{List: []string{"at1:b"}},
		"lists":              group{Lists: [][]string{{"a"}, {"b"}}},
		"lists, other cut":   group{Lists: [][]string{{"a", "b"}}},
		"lists, empty":       group{Lists: [][]string{{"a"}, {"b"}, {}}},
		"map":                group{Map: map[string]string{"a": "b"}},
		"map, turned":        group{Map: map[string]string{"b": "a"}},
		"map, two":           group{Map: map[string]string{"a": "b", "c": "d"}},
		"map, crossed":       group{Map: map[string]string{"a": "d", "c": "b"}},
		"address":            group{Address: netip.MustParseAddr("127.0.0.1")},
		"another address":    group{Address: netip.MustParseAddr("::1")},
		"pointer":            group{Pointer: &no},
		"inner":              group{Inner: inner{A: "a"}},
		"inner, other field": group{Inner: inner{B: "a"}},
		"any":                group{Any: inner{A: "a"}},
		"any text":           group{Any: "a"},
		"bytes":              group{Text: "\xff"},
		"other bytes":        group{Text: "\xfe"}, // neither is UTF-8
	}

	seen := map[ID]string{}
	for name, v := range values {
		id := sum("test", v)
		if other, ok := seen[id]; ok {
			t.Errorf("%s has the ID of %s", name, other)
		}
		seen[id] = name

		if sum("test", v) != id {
			t.Errorf("%s: the same value has another ID", name)
		}
		if sum("another kind", v) == id {
			t.Errorf("%s: another kind of keys has the same ID", name)
		}
	}
}

// TestNewFieldKeepsIDs shows that a field which a new version adds changes no ID while the field is empty, and that the
// order of fields in the source does not matter.
func TestNewFieldKeepsIDs(t *testing.T) {
	type before struct{ B, A string }
	type after struct {
		A, B string
		New  []string
	}
	if sum("test", before{A: "a", B: "b"}) != sum("test", after{A: "a", B: "b"}) {
		t.Error("the ID changed")
	}
	if sum("test", after{New: []string{}}) == sum("test", after{}) {
		t.Error("an empty list is a nil list")
	}
}

func TestMapsAreSorted(t *testing.T) {
	m := map[string]string{}
	for k := range strings.SplitSeq("qwertzuiopasdfghjklyxcvbnm", "") {
		m[k] = k
	}
	want := sum("test", group{Map: m})
	for range 20 {
		if got := sum("test", group{Map: m}); got != want {
			t.Fatalf("%s, then %s", want, got)
		}
	}
}

func TestNoEncoding(t *testing.T) {
	for name, v := range map[string]any{
		"function":     struct{ F func() }{func() {}},
		"file":         struct{ F *os.File }{os.Stdin},
		"hidden field": struct{ f string }{"a"},
		"float":        struct{ F float64 }{1},
		"map of ints":  struct{ M map[int]string }{map[int]string{1: "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			sum("test", v)
		})
	}
}

// change sets a value to another than it is.
func change(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() { //nolint:exhaustive // kinds of the fields of keys
	case reflect.String:
		v.SetString(v.String() + "changed")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Slice:
		v.Set(reflect.Append(v, reflect.New(v.Type().Elem()).Elem()))
	case reflect.Interface:
		v.Set(reflect.ValueOf(process{Network: "changed"}))
	default:
		t.Fatalf("how to change a %s?", v.Type())
	}
}

// leaves calls do for every field below v that is no struct.
func leaves(v reflect.Value, path string, do func(path string, v reflect.Value)) {
	if v.Kind() != reflect.Struct {
		do(path, v)
		return
	}
	for i := range v.NumField() {
		leaves(v.Field(i), strings.TrimPrefix(path+"."+v.Type().Field(i).Name, "."), do)
	}
}
