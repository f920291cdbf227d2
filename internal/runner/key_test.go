package runner

import (
	"errors"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
)

// TestSecurityKey: an option that has the effect of the default is the default in the key.
func TestSecurityKey(t *testing.T) {
	for _, tc := range []struct {
		name     string
		security Security
		insecure bool
		want     SecurityKey
	}{
		{"nothing", Security{}, false, SecurityKey{}},
		{"capabilities that are there anyway", Security{CapAdd: []string{"kill"}, CapDrop: []string{"sys_time"}}, false, SecurityKey{}},
		{"a capability that only an insecure command has", Security{CapAdd: []string{"sys_time"}}, true, SecurityKey{}},
		{
			"docker's set by another name",
			Security{Capabilities: sandbox.DefaultCapabilities()[1:], CapAdd: []string{"CHOWN"}},
			false,
			SecurityKey{},
		},
		{
			"a set",
			Security{Capabilities: []string{"kill"}, CapAdd: []string{"Chown"}},
			false,
			SecurityKey{Capabilities: []string{"CAP_CHOWN", "CAP_KILL"}},
		},
		{"an empty set", Security{CapDrop: []string{"all"}}, false, SecurityKey{Capabilities: []string{}}},
		{"no profile", Security{NoSeccomp: true}, false, SecurityKey{NoSeccomp: true}},
		{"no profile for a command that has none", Security{NoSeccomp: true}, true, SecurityKey{}},
		{
			"a profile",
			Security{Seccomp: []byte("x")},
			true,
			SecurityKey{Seccomp: "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"},
		},
		{
			"all others",
			Security{
				AppArmor: "p", NoNewPrivileges: true, Mask: []string{"/a"}, Unmask: []string{"/b"}, Groups: []string{"g"}, KeepGroups: true,
				UIDs: []sandbox.IDRange{{First: 0, Count: 9}}, CgroupNames: sandbox.CgroupHost,
			},
			false,
			SecurityKey{
				AppArmor: "p", NoNewPrivileges: true, Mask: []string{"/a"}, Unmask: []string{"/b"}, Groups: []string{"g"}, KeepGroups: true,
				UIDs: []sandbox.IDRange{{First: 0, Count: 9}}, CgroupNames: sandbox.CgroupHost,
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.security.key(tc.insecure)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestKey(t *testing.T) {
	size := int64(1)
	o := Options{
		Network: Network{Mode: Private},
		Etc:     Etc{Hosts: []HostEntry{{"db", netip.MustParseAddr("10.0.0.5")}}},
		Limits:  Limits{ShmSize: &size, Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE"}}},
		Volumes: []Volume{{Text: "/a:/b"}}, Devices: []Device{{Path: "/dev/a", Dest: "/b"}},
	}
	want := Key{
		Network: Private, Hosts: []string{"db=10.0.0.5"}, Volumes: []string{"/a:/b"}, Devices: []DeviceKey{{"/dev/a", "/b"}},
	}
	if diff := cmp.Diff(want, o.Key(Command{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	want.Network = None
	if diff := cmp.Diff(want, o.Key(Command{Network: None})); diff != "" {
		t.Errorf("the command's own network (-want +got):\n%s", diff)
	}

	o = Options{Etc: Etc{KeepHosts: true, KeepHostname: true, KeepResolver: true}, Stdin: os.Stdin, CompatVolumes: true}
	want = Key{Network: Host, KeepHosts: true, KeepHostname: true, KeepResolver: true, Stdin: true, Discarded: []string{"/v"}}
	if diff := cmp.Diff(want, o.Key(Command{Volumes: []string{"/v/", "/v/w"}})); diff != "" {
		t.Errorf("flags (-want +got):\n%s", diff)
	}
}

// ambient are the options that are not in Key, with the reason.
var ambient = map[string]string{
	"Network.AllowHost":    "permits a command and changes none",
	"Network.Helper":       "another way to the same network",
	"Etc.DNS":              "another way to the same names",
	"Etc.Search":           "another way to the same names",
	"Etc.ResolverOptions":  "another way to the same names",
	"Limits.Rlimits.Type":  "a limit ends a process and changes no result",
	"Limits.Rlimits.Hard":  "a limit ends a process and changes no result",
	"Limits.Rlimits.Soft":  "a limit ends a process and changes no result",
	"Limits.ShmSize":       "a limit ends a process and changes no result",
	"Limits.Silence.Limit": "a limit ends a process and changes no result",
	"Limits.Silence.Err":   "a limit ends a process and changes no result",
	"Limits.NewCgroup":     "a limit ends a process and changes no result",
	"Devices.Source":       "the path and the target are in the key",
	"Volumes.Source":       "the user promises that the result does not depend on the content",
	"Volumes.Dest":         "part of Text",
	"Volumes.ReadOnly":     "part of Text",
	"Volumes.Overlay":      "part of Text",
	"Volumes.Options":      "part of Text",
	"Secrets":              "a secret could be guessed from a key",
	"SSH":                  "a secret could be guessed from a key",
	"Machine.Architecture": "the key of the step has the platform of the image",
	"Machine.OS":           "the key of the step has the platform of the image",
	"Machine.OSVersion":    "the key of the step has the platform of the image",
	"Machine.OSFeatures":   "the key of the step has the platform of the image",
	"Machine.Variant":      "the key of the step has the platform of the image",
	"Emulators":            "the key of the step has the platform of the image",
	"Trusted":              "a property of the store, not of the result",
}

// TestEveryOptionIsClassified changes each option: either the key changes, or the option is listed
// as ambient.
func TestEveryOptionIsClassified(t *testing.T) {
	c := Command{Volumes: []string{"/v"}}
	base := func() reflect.Value {
		o := reflect.New(reflect.TypeFor[Options]()).Elem()
		grow(o)
		return o
	}
	usual := base().Interface().(Options).Key(c)

	seen := map[string]bool{}
	eachOption(reflect.TypeFor[Options](), "", func(v reflect.Value) reflect.Value { return v }, func(name string, get func(reflect.Value) reflect.Value) {
		seen[name] = true
		changed := base()
		field := get(changed)
		field.Set(example(field.Type()))
		inKey := !cmp.Equal(usual, changed.Interface().(Options).Key(c))
		reason := ambient[name]
		if inKey == (reason != "") {
			t.Errorf("%s: in the key: %v; reason to leave it out: %q", name, inKey, reason)
		}
	})
	for name := range ambient {
		if !seen[name] {
			t.Errorf("%s is no option", name)
		}
	}
}

// grow gives each slice of structs in v one element.
func grow(v reflect.Value) {
	switch {
	case v.Kind() == reflect.Struct && v.Type() != reflect.TypeFor[netip.Addr]():
		for i := range v.NumField() {
			grow(v.Field(i))
		}
	case isList(v.Type()):
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	}
}

func isList(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct && t.Elem() != reflect.TypeFor[netip.Addr]()
}

// eachOption calls visit for each field of a struct, of the structs in it, and of the first
// elements of slices of structs.
func eachOption(t reflect.Type, name string, get func(reflect.Value) reflect.Value, visit func(string, func(reflect.Value) reflect.Value)) {
	switch {
	case t.Kind() == reflect.Struct && t != reflect.TypeFor[netip.Addr]():
		for i := range t.NumField() {
			f := t.Field(i)
			eachOption(f.Type, strings.TrimPrefix(name+"."+f.Name, "."), func(v reflect.Value) reflect.Value { return get(v).Field(i) }, visit)
		}
	case isList(t):
		eachOption(t.Elem(), name, func(v reflect.Value) reflect.Value { return get(v).Index(0) }, visit)
	default:
		visit(name, get)
	}
}

// example returns a value that is not zero.
func example(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	switch {
	case t == reflect.TypeFor[netip.Addr]():
		v.Set(reflect.ValueOf(netip.MustParseAddr("192.0.2.1")))
	case t == reflect.TypeFor[error]():
		v.Set(reflect.ValueOf(errors.New("x")))
	case t.Kind() == reflect.String:
		v.SetString("x")
	case t.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.CanInt():
		v.SetInt(1)
	case v.CanUint():
		v.SetUint(1)
	case t.Kind() == reflect.Slice:
		v.Set(reflect.Append(v, example(t.Elem())))
	case t.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(t))
		v.SetMapIndex(example(t.Key()), reflect.Zero(t.Elem()))
	case t.Kind() == reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
	case t.Kind() == reflect.Func:
		v.Set(reflect.MakeFunc(t, func([]reflect.Value) []reflect.Value { return nil }))
	default:
		panic("no example of " + t.String())
	}
	return v
}
