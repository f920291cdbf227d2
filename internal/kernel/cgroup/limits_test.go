package cgroup

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/cgroups"
)

func TestControllers(t *testing.T) {
	for _, tc := range []struct {
		name string
		l    Limits
		want string
	}{
		{"none", Limits{}, ""},
		{"memory", Limits{Memory: 1}, "memory"},
		{"no limit of swap", Limits{Memory: 1, MemorySwap: -1}, "memory"},
		{"swap", Limits{Memory: 1, MemorySwap: 2}, "memory swap"},
		{"all", Limits{Memory: 1, CPUShares: 2, CPUs: "0", Pids: 1}, "cpu cpuset memory pids"},
		{"files", Limits{Files: map[string]string{"io.max": "x", "cgroup.max.depth": "1"}}, "io"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := strings.Join(tc.l.Controllers(), " "); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if left := tc.l.Only(nil).Controllers(); len(left) != 0 {
				t.Errorf("without controllers there are still %v", left)
			}
		})
	}
}

func TestResources(t *testing.T) {
	pids := int64(9)
	for _, tc := range []struct {
		name     string
		l        Limits
		v2, swap bool
		want     cgroups.Resources
	}{
		{"twice the memory", Limits{Memory: 64}, true, true, cgroups.Resources{Memory: 64, MemorySwap: 128}},
		{"no swap to limit", Limits{Memory: 64}, true, false, cgroups.Resources{Memory: 64}},
		{"no limit of swap", Limits{Memory: 64, MemorySwap: -1}, true, true, cgroups.Resources{Memory: 64, MemorySwap: -1}},
		{"the usual weight", Limits{CPUShares: 1024}, true, true, cgroups.Resources{CpuWeight: 100}},
		{"a weight of version 1", Limits{CPUShares: 512}, false, true, cgroups.Resources{CpuShares: 512}},
		{"half a processor", Limits{CPUQuota: 50000, CPUPeriod: 100000}, true, true, cgroups.Resources{CpuQuota: 50000, CpuPeriod: 100000}},
		{"no quota", Limits{CPUQuota: -1}, true, true, cgroups.Resources{}},
		{"processes", Limits{Pids: 9}, false, false, cgroups.Resources{PidsLimit: &pids}},
		{"files", Limits{Files: map[string]string{"a.b": "c"}}, true, false, cgroups.Resources{Unified: map[string]string{"a.b": "c"}}},
		{"files of another version", Limits{Files: map[string]string{"a.b": "c"}}, false, false, cgroups.Resources{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.want.SkipDevices = true
			if diff := cmp.Diff(&tc.want, tc.l.resources(tc.v2, tc.swap)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestReached(t *testing.T) {
	for _, tc := range []struct {
		l    Limits
		u    Usage
		want string
	}{
		{Limits{Memory: 64 << 20, Pids: 7}, Usage{}, ""},
		{Limits{Memory: 64 << 20}, Usage{OOMKills: 2}, "memory limit 64 MiB reached"},
		{Limits{Memory: 3 << 29}, Usage{OOMKills: 1}, "memory limit 1.5 GiB reached"},
		{Limits{}, Usage{OOMKills: 1}, "out of memory: the machine's, or the limit of a cgroup around this one, is reached"},
		{Limits{Pids: 64}, Usage{ForksRefused: 1}, "pids limit 64 reached"},
		{Limits{Memory: 1024, Pids: 64}, Usage{OOMKills: 1, ForksRefused: 1}, "memory limit 1 KiB reached, pids limit 64 reached"},
	} {
		if got := tc.l.Reached(tc.u); got != tc.want {
			t.Errorf("%+v, %+v: got %q, want %q", tc.l, tc.u, got, tc.want)
		}
	}
}

func TestMissing(t *testing.T) {
	user := "/user.slice/user-1.slice/user@1.service/app.slice/rbuild-A.scope"
	for _, tc := range []struct {
		name   string
		p      *Parent
		l      Limits
		reason Reason
		want   []string
	}{
		{"all there", &Parent{v2: true, controllers: []string{CPU, Memory}}, Limits{Memory: 1, CPUShares: 2}, "", nil},
		{
			"not delegated by the system",
			&Parent{v2: true, manager: Systemd, name: user, controllers: []string{Memory, Pids, Swap}},
			Limits{CPUs: "0", CPUShares: 2, Memory: 1},
			NoController,
			[]string{"no cpu and cpuset to delegate, only memory and pids;", "Delegate=cpu cpuset io memory pids"},
		},
		{
			"a scope without delegation",
			&Parent{v2: true, manager: CgroupFS, name: user, controllers: nil},
			Limits{Memory: 1},
			NoController,
			[]string{"no controller memory, only none", "Delegate="},
		},
		{"a shell beside us", &Parent{v2: true, manager: CgroupFS, name: user, busy: true}, Limits{Memory: 1}, Busy, []string{"app.slice holds other processes", "systemd-run"}},
		{"a shell beside us in a container", &Parent{v2: true, manager: CgroupFS, name: "/rbuild-A", busy: true}, Limits{Memory: 1}, Busy, []string{"cgroup / holds", "cgroup.procs"}},
		{"swap", &Parent{v2: true, controllers: []string{Memory}}, Limits{Memory: 1, MemorySwap: 2}, NoController, []string{"swap space", "swapaccount=1"}},
		{"version 1", &Parent{manager: CgroupFS, controllers: []string{Pids}}, Limits{Memory: 1}, NoController, []string{"cgroup v1", "unified_cgroup_hierarchy=1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.p.Missing(tc.l)
			var e *Error
			if tc.reason == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}

			if !errors.As(err, &e) || e.Reason != tc.reason {
				t.Fatalf("got %v, want the reason %s", err, tc.reason)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
		})
	}
}
