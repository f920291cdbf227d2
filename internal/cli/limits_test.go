package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.podman.io/storage/pkg/configfile"

	"codeberg.org/rbuild/rbuild/internal/kernel/cgroup"
)

func TestLimits(t *testing.T) {
	eight := int64(8)
	for _, tc := range []struct {
		name            string
		args            []string
		conf            func(c *Config)
		asked, standing cgroup.Limits
		manager         cgroup.Manager
	}{
		{name: "podman's limit of processes", standing: cgroup.Limits{Pids: 2048}},
		{
			name: "all", args: []string{"-m", "1g", "--memory-swap", "1.5g", "-c", "2", "--cpu-period", "50000", "--cpu-quota", "1000", "--cpuset-cpus", "0-1,3", "--cpuset-mems", "0", "--pids-limit", "5"},
			asked: cgroup.Limits{Memory: 1 << 30, MemorySwap: 3 << 29, CPUShares: 2, CPUPeriod: 50000, CPUQuota: 1000, CPUs: "0-1,3", Mems: "0", Pids: 5},
		},
		{name: "processors", args: []string{"--cpus", "1.5"}, asked: cgroup.Limits{CPUPeriod: 100000, CPUQuota: 150000}, standing: cgroup.Limits{Pids: 2048}},
		{name: "no limits", args: []string{"-m", "0", "--memory-swap", "0", "--cpu-quota", "-1", "--pids-limit", "-1"}},
		{name: "swap without limit", args: []string{"-m", "64m", "--memory-swap", "-1", "--pids-limit", "0"}, asked: cgroup.Limits{Memory: 64 << 20, MemorySwap: -1}},
		{name: "swap without limit alone", args: []string{"--memory-swap", "-1", "--pids-limit", "0"}},
		{
			name: "containers.conf", conf: func(c *Config) {
				c.Containers.PidsLimit, c.Engine.CgroupManager = &eight, "cgroupfs"
				c.Containers.CgroupConf = configfile.NewSlice([]string{"memory.high=1G"})
			},
			standing: cgroup.Limits{Pids: 8, Files: map[string]string{"memory.high": "1G"}}, manager: cgroup.CgroupFS,
		},
		{
			name: "flags before containers.conf", args: []string{"--pids-limit", "9", "--cgroup-manager", "systemd"},
			conf:  func(c *Config) { c.Containers.PidsLimit, c.Containers.Cgroups = &eight, "disabled" },
			asked: cgroup.Limits{Pids: 9}, manager: cgroup.Systemd,
		},
		{
			name: "what distributions ship", conf: func(c *Config) { c.Engine.CgroupManager = "systemd" },
			standing: cgroup.Limits{Pids: 2048}, manager: cgroup.Auto,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := testHost("XDG_RUNTIME_DIR=/run/user/1")
			if tc.conf != nil {
				tc.conf(&h.Config)
			}
			b, err := parseOn(t, h, tc.args)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.asked, b.Limits.Asked); diff != "" {
				t.Errorf("asked for (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.standing, b.Limits.Standing); diff != "" {
				t.Errorf("by default (-want +got):\n%s", diff)
			}
			want := cgroup.Options{Manager: tc.manager, Bus: "unix:path=/run/user/1/bus"}
			if diff := cmp.Diff(want, b.Limits.Cgroups); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
		})
	}
}
