package cache

import (
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"fmt"
	"hash"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// sum is the digest of the canonical encoding of v after the salt and a kind of keys, such as "step". Keys of different kinds
// never collide.
func sum(kind string, v any) ID {
	h := sha256.New()
	e := encoder{h}
	e.text('t', salt)
	e.text('t', kind)
	e.value(reflect.ValueOf(v))
	return ID(hex.EncodeToString(h.Sum(nil)))
}

// encoder writes the canonical encoding of a value: a letter for the kind, the length, then the content. No two different
// values have the same encoding, and no encoding is the beginning of another.
//
//	text     t3:abc
//	number   i2:42          booleans are 0 and 1
//	list     l2:...         and an array
//	map      m1:...         key and value, sorted by the key
//	struct   s1:f4:Stept3:RUN   the fields that are not zero, each with its name
//	pointer  p1:...
//
// A field with its zero value is left out: an option that a new version adds changes no key of a step that does not use the
// option. An empty list or map that is not nil is no zero value: "no capabilities" is not "the default".
type encoder struct{ hash.Hash }

func (e encoder) text(kind byte, s string) { fmt.Fprintf(e, "%c%d:%s", kind, len(s), s) }

func (e encoder) count(kind byte, n int) { fmt.Fprintf(e, "%c%d:", kind, n) }

// value panics for a value that has no canonical encoding, such as a function: only a mistake in a key's type leads there.
func (e encoder) value(v reflect.Value) {
	if m, ok := marshaler(v); ok {
		e.marshaled(m)
		return
	}

	switch v.Kind() { //nolint:exhaustive // the others have no encoding
	case reflect.String:
		e.text('t', v.String())
	case reflect.Bool:
		e.text('i', map[bool]string{false: "0", true: "1"}[v.Bool()])
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		e.text('i', fmt.Sprint(v.Int()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		e.text('i', fmt.Sprint(v.Uint()))
	case reflect.Slice, reflect.Array:
		e.count('l', v.Len())
		for i := range v.Len() {
			e.value(v.Index(i))
		}
	case reflect.Map:
		e.entries(v)
	case reflect.Struct:
		e.fields(v)
	case reflect.Pointer, reflect.Interface:
		e.pointer(v)
	default:
		panic(fmt.Sprintf("a cache key cannot hold a %s", v.Type()))
	}
}

// marshaler returns the value as text if the type has one, for example netip.Addr.
func marshaler(v reflect.Value) (encoding.TextMarshaler, bool) {
	if v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface || !v.CanInterface() {
		return nil, false
	}
	return reflect.TypeAssert[encoding.TextMarshaler](v)
}

func (e encoder) marshaled(m encoding.TextMarshaler) {
	text, err := m.MarshalText()
	if err != nil {
		panic(fmt.Sprintf("a cache key cannot hold this %T: %v", m, err))
	}
	e.text('t', string(text))
}

func (e encoder) pointer(v reflect.Value) {
	if v.IsNil() {
		e.count('p', 0)
		return
	}
	e.count('p', 1)
	e.value(v.Elem())
}

func (e encoder) entries(v reflect.Value) {
	byText := map[string]reflect.Value{}
	for _, key := range v.MapKeys() {
		byText[key.String()] = v.MapIndex(key)
	}
	if v.Type().Key().Kind() != reflect.String {
		panic(fmt.Sprintf("a cache key cannot hold a %s", v.Type()))
	}

	e.count('m', len(byText))
	for _, key := range slices.Sorted(maps.Keys(byText)) {
		e.text('t', key)
		e.value(byText[key])
	}
}

func (e encoder) fields(v reflect.Value) {
	var used []int
	for i := range v.NumField() {
		if !v.Type().Field(i).IsExported() {
			panic(fmt.Sprintf("a cache key cannot hold a %s: its field %s is hidden", v.Type(), v.Type().Field(i).Name))
		}
		if !v.Field(i).IsZero() {
			used = append(used, i)
		}
	}

	slices.SortFunc(used, func(a, b int) int {
		return strings.Compare(v.Type().Field(a).Name, v.Type().Field(b).Name)
	})
	e.count('s', len(used))
	for _, i := range used {
		e.text('f', v.Type().Field(i).Name)
		e.value(v.Field(i))
	}
}
