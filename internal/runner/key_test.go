package runner

import (
	"net/netip"
	"os"
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
			Security{Capabilities: sandbox.DefaultCapabilities()[1:], CapAdd: []string{"CHOWN"}}, false,
			SecurityKey{},
		},
		{
			"a set", Security{Capabilities: []string{"kill"}, CapAdd: []string{"Chown"}}, false,
			SecurityKey{Capabilities: []string{"CAP_CHOWN", "CAP_KILL"}},
		},
		{"an empty set", Security{CapDrop: []string{"all"}}, false, SecurityKey{Capabilities: []string{}}},
		{"no profile", Security{NoSeccomp: true}, false, SecurityKey{NoSeccomp: true}},
		{"no profile for a command that has none", Security{NoSeccomp: true}, true, SecurityKey{}},
		{
			"a profile", Security{Seccomp: []byte("x")}, true,
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
