package main

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/kernel/cgroup"
)

// podmanPids is podman's default limit of processes.
const podmanPids = 2048

// limitFlags say what RUN may use, and by whom that is enforced.
type limitFlags struct {
	memory     string
	memorySwap string
	cpus       float64
	cpuPeriod  uint64
	cpuQuota   int64
	cpuShares  uint64
	cpusetCPUs string
	cpusetMems string
	pids       int64
	parent     string
	manager    string
	effort     string

	flags *pflag.FlagSet
	conf  *containersConf

	asked    cgroup.Limits // by flags: must hold
	standing cgroup.Limits // by containers.conf and by default: holds where it can
	cgroups  cgroup.Options
}

func (f *limitFlags) register(fs *pflag.FlagSet) {
	fs.StringVarP(&f.memory, "memory", "m", "", "memory that a RUN may use, a number with b, k, m or g")
	fs.StringVar(&f.memorySwap, "memory-swap", "", "memory and swap space together (default: twice --memory); -1: no limit")
	fs.Float64Var(&f.cpus, "cpus", 0, "how many processors' time a RUN may use, e.g. 1.5")
	fs.Uint64Var(&f.cpuPeriod, "cpu-period", 0, "period of --cpu-quota in microseconds (default: 100000)")
	fs.Int64Var(&f.cpuQuota, "cpu-quota", 0, "CPU time that a RUN may use in each period, in microseconds")
	fs.Uint64VarP(&f.cpuShares, "cpu-shares", "c", 0, "weight of a RUN where CPU time is short; the usual one is 1024")
	fs.StringVar(&f.cpusetCPUs, "cpuset-cpus", "", "processors that a RUN may use, e.g. 0-3,7")
	fs.StringVar(&f.cpusetMems, "cpuset-mems", "", "memory nodes that a RUN may use, e.g. 0,1")
	fs.Int64Var(&f.pids, "pids-limit", 0, "processes that a RUN may have at a time (default: containers.conf, else 2048 where it can be had); -1: no limit")
	fs.StringVar(&f.parent, "cgroup-parent", "", "cgroup below which those of RUN are made; with systemd a slice")
	fs.StringVar(&f.manager, "cgroup-manager", "", "who makes cgroups: systemd, cgroupfs or disabled (default: what can be had)")
	fs.StringVar(&f.effort, "limits", "required", "required, or best-effort: run with those limits that can be enforced here")
	f.flags = fs
}

func (f *limitFlags) apply(env lookup, _ *builder.Options) error {
	if !slices.Contains([]string{"required", "best-effort"}, f.effort) {
		return fmt.Errorf("--limits %q: choose required or best-effort", f.effort)
	}
	f.asked, f.standing = cgroup.Limits{}, cgroup.Limits{}
	for _, read := range []func() error{f.readMemory, f.readCPU, f.readPids, f.readFiles, f.readManager} {
		if err := read(); err != nil {
			return err
		}
	}
	f.cgroups.Parent, f.cgroups.Bus = f.parent, userBus(env)
	return nil
}

// minMemory is docker's least limit, in bytes. Making a process alone takes more than some limits below: the builder's calls
// fail then, in RUN's cgroup, and it may be left there.
const minMemory = 6 << 20

func (f *limitFlags) readMemory() (err error) {
	if f.memory != "" {
		if f.asked.Memory, err = units.RAMInBytes(f.memory); err != nil || f.asked.Memory < 0 {
			return fmt.Errorf("--memory %q: want a number with b, k, m or g, e.g. 512m", f.memory)
		}
		if f.asked.Memory > 0 && f.asked.Memory < minMemory {
			return fmt.Errorf("--memory %q: want at least 6m", f.memory)
		}
	}

	switch f.memorySwap {
	case "", "0":
		return nil
	case "-1":
		f.asked.MemorySwap = -1
	default:
		if f.asked.MemorySwap, err = units.RAMInBytes(f.memorySwap); err != nil || f.asked.MemorySwap < 0 {
			return fmt.Errorf("--memory-swap %q: want a number with b, k, m or g, or -1", f.memorySwap)
		}
	}

	switch {
	case f.asked.Memory != 0:
	case f.asked.MemorySwap == -1: // neither is limited
		f.asked.MemorySwap = 0
		return nil
	default:
		return errors.New("--memory-swap needs --memory")
	}

	if f.asked.MemorySwap != -1 && f.asked.MemorySwap < f.asked.Memory {
		return fmt.Errorf("--memory-swap %s is memory and swap space together: it cannot be less than --memory %s", f.memorySwap, f.memory)
	}

	return nil
}

// readCPU checks by the kernel's bounds (cgroup-v2.rst, sched-bwc.rst).
func (f *limitFlags) readCPU() error {
	l := &f.asked
	if f.flags.Changed("cpus") {
		if f.flags.Changed("cpu-period") || f.flags.Changed("cpu-quota") {
			return errors.New("--cpus stands for --cpu-period and --cpu-quota: give one or the others")
		}
		if f.cpus < 0.01 || f.cpus > 1<<20 || math.IsNaN(f.cpus) {
			return fmt.Errorf("--cpus %v: want how many processors' time may be used, at least 0.01", f.cpus)
		}
		l.CPUPeriod, l.CPUQuota = 100000, int64(math.Round(f.cpus*100000))
	}

	if f.cpuPeriod != 0 {
		if f.cpuPeriod < 1000 || f.cpuPeriod > 1000000 {
			return fmt.Errorf("--cpu-period %d: want 1000 to 1000000 microseconds", f.cpuPeriod)
		}
		l.CPUPeriod = f.cpuPeriod
	}

	if f.cpuQuota != 0 && f.cpuQuota != -1 {
		if f.cpuQuota < 1000 {
			return fmt.Errorf("--cpu-quota %d: want at least 1000 microseconds", f.cpuQuota)
		}
		l.CPUQuota = f.cpuQuota
	}

	l.CPUShares = f.cpuShares
	for _, set := range []struct {
		flag, text string
		to         *string
	}{{"--cpuset-cpus", f.cpusetCPUs, &l.CPUs}, {"--cpuset-mems", f.cpusetMems, &l.Mems}} {
		if !isNumberList(set.text) {
			return fmt.Errorf("%s %q: want numbers and ranges, e.g. 0-3,7", set.flag, set.text)
		}
		*set.to = set.text
	}

	return nil
}

// isNumberList tells whether text has the form of cpuset(7)'s lists.
func isNumberList(text string) bool {
	if text == "" {
		return true
	}

	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		low, err := strconv.ParseUint(first, 10, 16)
		if err != nil {
			return false
		}
		if high, err := strconv.ParseUint(last, 10, 16); isRange && (err != nil || high < low) {
			return false
		}
	}

	return true
}

func (f *limitFlags) readPids() error {
	switch conf := f.conf.Containers.PidsLimit; {
	case f.pids < -1:
		return fmt.Errorf("--pids-limit %d: want a number of processes, or -1 for no limit", f.pids)
	case f.pids > 0:
		f.asked.Pids = f.pids
	case f.flags.Changed("pids-limit"):
	case conf == nil:
		f.standing.Pids = podmanPids
	default:
		f.standing.Pids = max(*conf, 0)
	}

	return nil
}

// readFiles reads cgroup_conf of containers.conf.
func (f *limitFlags) readFiles() error {
	for _, text := range f.conf.Containers.CgroupConf.Get() {
		file, value, ok := strings.Cut(text, "=")
		if !ok || !strings.Contains(file, ".") || strings.Contains(file, "/") {
			return fmt.Errorf("containers.conf: cgroup_conf %q: want FILE=VALUE, e.g. memory.high=1073741824", text)
		}
		if f.standing.Files == nil {
			f.standing.Files = map[string]string{}
		}
		f.standing.Files[file] = value
	}
	return nil
}

// readManager: that of containers.conf is systemd where nobody has thought of it, so that means what can be had.
func (f *limitFlags) readManager() error {
	switch f.manager {
	case "":
		switch {
		case f.conf.Containers.Cgroups == "disabled":
			f.cgroups.Manager = cgroup.Disabled
		case f.conf.Engine.CgroupManager == "cgroupfs":
			f.cgroups.Manager = cgroup.CgroupFS
		default:
			f.cgroups.Manager = cgroup.Auto
		}
	default:
		f.cgroups.Manager = cgroup.Manager(f.manager)
	}

	return checkManager(f.manager)
}

// userBus is the address of the user's D-Bus.
func userBus(env lookup) string {
	if address, _ := env("DBUS_SESSION_BUS_ADDRESS"); address != "" {
		return address
	}
	if dir, _ := env("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return "unix:path=" + filepath.Join(dir, "bus")
	}
	return ""
}

// names are the flags that ask for the controllers, for messages.
func (f *limitFlags) names(controllers []string) string {
	var names []string
	for _, flag := range []struct{ name, controller string }{
		{"memory", cgroup.Memory},
		{"memory-swap", cgroup.Swap},
		{"memory-swap", cgroup.Memory},
		{"cpus", cgroup.CPU},
		{"cpu-period", cgroup.CPU},
		{"cpu-quota", cgroup.CPU},
		{"cpu-shares", cgroup.CPU},
		{"cpuset-cpus", cgroup.CPUSet},
		{"cpuset-mems", cgroup.CPUSet},
		{"pids-limit", cgroup.Pids},
	} {
		if name := "--" + flag.name; f.flags.Changed(flag.name) && slices.Contains(controllers, flag.controller) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}

	return strings.Join(names, ", ")
}
