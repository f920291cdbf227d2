package builder

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
)

func TestConfinementIngredients(t *testing.T) {
	size := int64(1)
	for _, tc := range []struct {
		name     string
		c        Confinement
		insecure bool
		want     []string
	}{
		{"nothing", Confinement{}, false, nil},
		{"limits", Confinement{ShmSize: &size, Limits: []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE"}}}, false, nil},
		{"what is there anyway", Confinement{CapAdd: []string{"kill"}, CapDrop: []string{"sys_time"}}, false, nil},
		{"what only an insecure step has", Confinement{CapAdd: []string{"sys_time"}}, true, nil},
		{"docker's set by another name", Confinement{Capabilities: sandbox.DefaultCapabilities()[1:], CapAdd: []string{"CHOWN"}}, false, nil},
		{"a set", Confinement{Capabilities: []string{"kill"}, CapAdd: []string{"Chown"}}, false, []string{`capabilities=["CAP_CHOWN" "CAP_KILL"]`}},
		{"no profile", Confinement{NoSeccomp: true}, false, []string{"no seccomp"}},
		{"no profile for one that has none", Confinement{NoSeccomp: true}, true, nil},
		{"a profile", Confinement{Seccomp: []byte("x")}, true, []string{"seccomp=2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"}},
		{
			"the rest",
			Confinement{
				NoNewPrivileges: true, Mask: []string{"/a"}, Unmask: []string{"/b"}, Devices: []Device{{Path: "/dev/a", Dest: "/b"}},
				Groups: []string{"g"}, KeepGroups: true, UIDs: []sandbox.IDRange{{First: 0, Count: 9}}, CgroupNames: sandbox.CgroupHost,
			},
			false,
			[]string{
				"no new privileges", "mask=/a", "unmask=/b", `device="/dev/a","/b"`, "group=g", "keep groups", "cgroup names 1",
				"uids=[{0 9}] gids=[]",
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.c.ingredients(tc.insecure)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestConfinementPaths(t *testing.T) {
	of := func() *specs.Linux {
		return &specs.Linux{MaskedPaths: []string{"/proc/keys", "/proc/kcore"}, ReadonlyPaths: []string{"/proc/sys"}}
	}
	for _, tc := range []struct {
		name             string
		c                Confinement
		none             bool
		masked, readOnly []string
	}{
		{"defaults", Confinement{}, false, []string{"/proc/keys", "/proc/kcore"}, []string{"/proc/sys"}},
		{"more and fewer", Confinement{Mask: []string{"/x"}, Unmask: []string{"/proc/k?ys", "/proc/s*"}}, false, []string{"/proc/kcore", "/x"}, []string{}},
		{"mask wins", Confinement{Mask: []string{"/proc/keys"}, Unmask: []string{"/proc/k*"}}, false, []string{"/proc/keys"}, []string{"/proc/sys"}},
		{"insecure", Confinement{Mask: []string{"/x"}}, true, []string{"/x"}, []string{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := of()
			tc.c.paths(l, tc.none)
			if diff := cmp.Diff([][]string{tc.masked, tc.readOnly}, [][]string{l.MaskedPaths, l.ReadonlyPaths}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
