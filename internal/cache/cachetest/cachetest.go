// Package cachetest has the test that every struct of options must pass whose values may belong into a
// cache key: a field is either in the key or listed with the reason why not.
package cachetest

import (
	"encoding"
	"errors"
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/cache"
)

// Classify changes each field of base, of the structs in base, and of the first elements of its
// slices of structs. It reports a field that neither changes the result of key nor is in ambient, a
// field that does both, and an entry of ambient that names no field.
//
// The keys of ambient are paths such as "Network.Helper" or, for a field of a slice's element,
// "Volumes.Dest". An entry for a struct, such as "Run", covers all fields of the struct. An
// interface holds behaviour, which no key has: its field must be in ambient, unless it is an error.
//
// base must be a struct. Its slices of structs get one element if they are empty.
func Classify[T, K any](t *testing.T, base T, key func(T) K, ambient map[string]cache.Reason) {
	t.Helper()
	grow(reflect.ValueOf(&base).Elem())
	usual := key(base)
	left := map[string]bool{}
	for name := range ambient {
		left[name] = true
	}

	each(reflect.TypeFor[T](), "", ambient, root, func(path string, get access) {
		reason, listed := ambient[path]
		delete(left, path)

		changed := clone(base)
		field := get(reflect.ValueOf(&changed).Elem())
		if !differ(field) {
			if !listed {
				t.Errorf("%s is not classified: list the reason why it is in no key", path)
			}
			return
		}

		inKey := !cmp.Equal(usual, key(changed))
		if inKey == listed {
			t.Errorf("%s: in the key: %v; reason to leave it out: %q", path, inKey, reason)
		}
	})
	for name := range left {
		t.Errorf("%s is no field", name)
	}
}

// access returns a field of a value.
type access func(reflect.Value) reflect.Value

func root(v reflect.Value) reflect.Value { return v }

// each calls visit for every field below a type. A struct that ambient lists is one field.
func each(typ reflect.Type, path string, ambient map[string]cache.Reason, get access, visit func(string, access)) {
	_, whole := ambient[path]
	switch {
	case isList(typ):
		each(typ.Elem(), path, ambient, func(v reflect.Value) reflect.Value { return get(v).Index(0) }, visit)
	case whole || !isGroup(typ):
		visit(path, get)
	default:
		for i := range typ.NumField() {
			name := typ.Field(i).Name
			if path != "" {
				name = path + "." + name
			}
			each(typ.Field(i).Type, name, ambient, func(v reflect.Value) reflect.Value { return get(v).Field(i) }, visit)
		}
	}
}

// isGroup reports whether a type is a struct of fields, and not one value such as netip.Addr.
func isGroup(typ reflect.Type) bool {
	if typ.Kind() != reflect.Struct || typ.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		return false
	}
	for f := range typ.Fields() {
		if !f.IsExported() {
			return false
		}
	}
	return true
}

func isList(typ reflect.Type) bool { return typ.Kind() == reflect.Slice && isGroup(typ.Elem()) }

// grow gives each empty slice of structs in v one element.
func grow(v reflect.Value) {
	switch {
	case isList(v.Type()):
		if v.Len() == 0 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		}
	case isGroup(v.Type()):
		for _, field := range v.Fields() {
			grow(field)
		}
	}
}

// clone copies a struct and its slices of structs.
func clone[T any](from T) T {
	separate(reflect.ValueOf(&from).Elem())
	return from
}

func separate(v reflect.Value) {
	switch {
	case isList(v.Type()):
		own := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(own, v)
		v.Set(own)
		for i := range v.Len() {
			separate(v.Index(i))
		}
	case isGroup(v.Type()):
		for _, field := range v.Fields() {
			separate(field)
		}
	}
}

// differ gives v another value than it has. It reports whether there is one: not for interfaces, and
// not for structs whose fields are hidden.
func differ(v reflect.Value) bool {
	switch typ := v.Type(); {
	case typ == reflect.TypeFor[netip.Addr]():
		v.Set(reflect.ValueOf(netip.MustParseAddr("192.0.2.1")))
	case typ == reflect.TypeFor[error]():
		v.Set(reflect.ValueOf(errors.New("changed")))
	case typ.Kind() == reflect.String:
		v.SetString(v.String() + "changed")
	case typ.Kind() == reflect.Bool:
		v.SetBool(!v.Bool())
	case v.CanInt():
		v.SetInt(v.Int() + 1)
	case v.CanUint():
		v.SetUint(v.Uint() + 1)
	case typ.Kind() == reflect.Slice:
		element := reflect.New(typ.Elem()).Elem()
		differ(element)
		v.Set(reflect.Append(v, element))
	case typ.Kind() == reflect.Map:
		entry := reflect.New(typ.Key()).Elem()
		differ(entry)
		v.Set(reflect.MakeMap(typ))
		v.SetMapIndex(entry, reflect.Zero(typ.Elem()))
	case typ.Kind() == reflect.Pointer:
		v.Set(reflect.New(typ.Elem()))
	case typ.Kind() == reflect.Func:
		v.Set(reflect.MakeFunc(typ, func([]reflect.Value) []reflect.Value { return nil }))
	case isGroup(typ):
		for _, field := range v.Fields() {
			if differ(field) {
				return true
			}
		}
		return false
	default:
		return false
	}
	return true
}
