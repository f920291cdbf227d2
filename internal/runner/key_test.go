package runner

import (
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"codeberg.org/rbuild/rbuild/internal/cache"
	"codeberg.org/rbuild/rbuild/internal/cache/cachetest"
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

// platform is the reason for options that repeat a part of the key of the step.
const platform cache.Reason = "the key of the step has the platform of the image"

// ambient are the options that are not in Key.
var ambient = map[string]cache.Reason{
	"Network.AllowHost":    cache.Ambient.Network, // permits a command and changes none
	"Network.Helper":       cache.Ambient.Network,
	"Etc.DNS":              cache.Ambient.Network,
	"Etc.Search":           cache.Ambient.Network,
	"Etc.ResolverOptions":  cache.Ambient.Network,
	"Limits.Rlimits.Type":  cache.Ambient.Limits,
	"Limits.Rlimits.Hard":  cache.Ambient.Limits,
	"Limits.Rlimits.Soft":  cache.Ambient.Limits,
	"Limits.ShmSize":       cache.Ambient.Limits,
	"Limits.Silence.Limit": cache.Ambient.Limits,
	"Limits.Silence.Err":   cache.Ambient.Limits,
	"Limits.NewCgroup":     cache.Ambient.Limits,
	"Devices.Source":       cache.Ambient.Devices, // Path and Dest are in the key
	"Volumes.Source":       cache.Ambient.Volumes, // Text has all fields but this
	"Volumes.Dest":         cache.Ambient.Volumes,
	"Volumes.ReadOnly":     cache.Ambient.Volumes,
	"Volumes.Overlay":      cache.Ambient.Volumes,
	"Volumes.Options":      cache.Ambient.Volumes,
	"Secrets":              cache.Ambient.Secrets,
	"SSH":                  cache.Ambient.SSH,
	"Machine.Architecture": platform,
	"Machine.OS":           platform,
	"Machine.OSVersion":    platform,
	"Machine.OSFeatures":   platform,
	"Machine.Variant":      platform,
	"Emulators":            cache.Ambient.Emulators,
	"Trusted":              cache.Ambient.Storage,
}

// TestEveryOptionIsClassified changes each option: either the key changes, or the option is listed
// as ambient.
func TestEveryOptionIsClassified(t *testing.T) {
	c := Command{Volumes: []string{"/v"}}
	cachetest.Classify(t, Options{}, func(o Options) Key { return o.Key(c) }, ambient)
}

// TestEveryFieldIsInTheCacheKey changes each field of a Key: each change changes the cache key of the
// step.
func TestEveryFieldIsInTheCacheKey(t *testing.T) {
	inStep := func(k Key) cache.ID { return cache.Key{Process: k}.ID() }
	cachetest.Classify(t, Key{}, inStep, nil)

	full := Options{
		Network: Network{Mode: Private}, Stdin: os.Stdin,
		Volumes:  []Volume{{Text: "/a:/b"}},
		Devices:  []Device{{Path: "/dev/a", Dest: "/b"}},
		Security: Security{Seccomp: []byte("x"), CapDrop: []string{"all"}, UIDs: []sandbox.IDRange{{First: 0, Count: 9}}},
	}
	cachetest.Classify(t, full.Key(Command{}), inStep, nil)
}
