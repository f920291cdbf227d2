package cli

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/kernel/cgroup"
	"codeberg.org/rbuild/rbuild/internal/spec"
)

// podmanPids is podman's default limit of processes.
const podmanPids = 2048

// limitFlags bound the resources of RUN.
type limitFlags struct {
	memory     string
	memorySwap string
	cpu        cpuFlags
	pids       int64
	parent     string
	manager    string
	effort     string
	ulimits    []string
	shmSize    string

	flags *pflag.FlagSet
}

// cpuFlags bound the CPU time of RUN and choose its processors.
type cpuFlags struct {
	cpus   float64
	period uint64
	quota  int64
	shares uint64
	set    string
	mems   string
}

const (
	effortRequired = "required"
	effortBest     = "best-effort"
)

func (f *limitFlags) register(fs *pflag.FlagSet) {
	section(fs, SubjectLimits, func(fs *pflag.FlagSet) {
		fs.StringVarP(&f.memory, "memory", "m", "", "Memory of a RUN, a number with b, k, m or g, e.g. 512m")
		fs.StringVar(&f.memorySwap, "memory-swap", "",
			"Memory and swap space together, e.g. 1g (default: twice --memory); -1: no limit")
		fs.Float64Var(&f.cpu.cpus, "cpus", 0, "CPU time of a RUN in processors, e.g. 1.5")
		fs.Uint64Var(&f.cpu.period, "cpu-period", 0,
			"Period of --cpu-quota in microseconds, e.g. 50000 (default: 100000)")
		fs.Int64Var(&f.cpu.quota, "cpu-quota", 0, "CPU time of a RUN in each period, in microseconds, e.g. 25000")
		fs.Uint64VarP(&f.cpu.shares, "cpu-shares", "c", 0,
			"Weight of a RUN where CPU time is short, e.g. 512; the usual weight is 1024")
		fs.StringVar(&f.cpu.set, "cpuset-cpus", "", "Processors of a RUN, e.g. 0-3,7")
		fs.StringVar(&f.cpu.mems, "cpuset-mems", "", "Memory nodes of a RUN, e.g. 0,1")
		fs.Int64Var(&f.pids, "pids-limit", 0,
			"Processes of a RUN at a time (default: containers.conf, else 2048 where that can be enforced); -1: "+
				"no limit")
		fs.StringVar(&f.parent, "cgroup-parent", "",
			"Cgroup for the cgroups of RUN, e.g. /user/builds; with systemd a slice, e.g. builds.slice")
		fs.StringVar(&f.manager, "cgroup-manager", "",
			"Manager of the cgroups of RUN: systemd, cgroupfs or disabled (default: the first that works)")
		fs.StringVar(&f.effort, "limits", effortRequired,
			"Enforcement of limits: required, or best-effort to run with the limits that can be enforced here")
		fs.StringSliceVar(&f.ulimits, "ulimit", nil, "Resource limit of RUN as TYPE=SOFT[:HARD], e.g. nofile=1024:2048")
		fs.StringVar(&f.shmSize, "shm-size", "", "Size of /dev/shm in RUN, e.g. 128m (default 64m); 0: no limit")
		f.flags = fs
	})
}

func (f *limitFlags) parse(h *Host, b *spec.Build) (err error) {
	if !slices.Contains([]string{effortRequired, effortBest}, f.effort) {
		return fmt.Errorf("--limits %q: choose required or best-effort", f.effort)
	}

	l := &b.Limits
	l.BestEffort = f.effort == effortBest
	l.Remedy = "with --limits=best-effort the build runs without"
	l.Flags = f.given()
	if err := f.parseMemory(&l.Asked); err != nil {
		return err
	}
	if err := f.cpu.parse(f.flags, &l.Asked); err != nil {
		return err
	}
	if err := f.parsePids(l, h.Config); err != nil {
		return err
	}
	if l.Standing.Files, err = h.Config.cgroupFiles(); err != nil {
		return err
	}
	if l.Cgroups.Manager, err = f.cgroupManager(h.Config); err != nil {
		return err
	}

	l.Configured = h.Config.limitsProcesses() || len(l.Standing.Files) > 0
	l.Cgroups.Parent = f.parent
	l.Cgroups.Bus = userBus(h.Env)
	return f.parseUlimits(h, l)
}

// CgroupOptions returns how a build without flags makes cgroups.
func CgroupOptions(h *Host) (cgroup.Options, error) {
	var f limitFlags
	f.register(pflag.NewFlagSet("", pflag.ContinueOnError))
	var b spec.Build
	err := f.parse(h, &b)
	return b.Limits.Cgroups, err
}

// minMemory is docker's least limit, in bytes. Making a process alone takes more memory than some lower limits: then calls
// of the builder in RUN's cgroup fail, and the builder may be left in that cgroup.
const minMemory = 6 << 20

func (f *limitFlags) parseMemory(l *cgroup.Limits) (err error) {
	if f.memory != "" {
		if l.Memory, err = units.RAMInBytes(f.memory); err != nil || l.Memory < 0 {
			return fmt.Errorf("--memory %q: want a number with b, k, m or g, e.g. 512m", f.memory)
		}
		if l.Memory > 0 && l.Memory < minMemory {
			return fmt.Errorf("--memory %q: want at least 6m", f.memory)
		}
	}

	switch f.memorySwap {
	case "", "0":
		return nil
	case "-1":
		l.MemorySwap = -1
	default:
		if l.MemorySwap, err = units.RAMInBytes(f.memorySwap); err != nil || l.MemorySwap < 0 {
			return fmt.Errorf("--memory-swap %q: want a number with b, k, m or g, or -1", f.memorySwap)
		}
	}

	switch {
	case l.Memory == 0 && l.MemorySwap == -1: // neither is limited
		l.MemorySwap = 0
	case l.Memory == 0:
		return errors.New("--memory-swap needs --memory")
	case l.MemorySwap != -1 && l.MemorySwap < l.Memory:
		return fmt.Errorf("--memory-swap %s is memory and swap space together: it cannot be less than --memory %s",
			f.memorySwap, f.memory)
	}
	return nil
}

// parse checks by the kernel's bounds (cgroup-v2.rst, sched-bwc.rst).
func (f *cpuFlags) parse(flags *pflag.FlagSet, l *cgroup.Limits) error {
	if flags.Changed("cpus") {
		if flags.Changed("cpu-period") || flags.Changed("cpu-quota") {
			return errors.New("--cpus stands for --cpu-period and --cpu-quota: give one or the others")
		}
		if f.cpus < 0.01 || f.cpus > 1<<20 || math.IsNaN(f.cpus) {
			return fmt.Errorf("--cpus %v: want how many processors' time may be used, at least 0.01", f.cpus)
		}
		l.CPUPeriod = 100000
		l.CPUQuota = int64(math.Round(f.cpus * 100000))
	}

	if f.period != 0 {
		if f.period < 1000 || f.period > 1000000 {
			return fmt.Errorf("--cpu-period %d: want 1000 to 1000000 microseconds", f.period)
		}
		l.CPUPeriod = f.period
	}

	if f.quota != 0 && f.quota != -1 {
		if f.quota < 1000 {
			return fmt.Errorf("--cpu-quota %d: want at least 1000 microseconds", f.quota)
		}
		l.CPUQuota = f.quota
	}

	l.CPUShares = f.shares
	if !isNumberList(f.set) {
		return fmt.Errorf("--cpuset-cpus %q: want numbers and ranges, e.g. 0-3,7", f.set)
	}
	l.CPUs = f.set
	if !isNumberList(f.mems) {
		return fmt.Errorf("--cpuset-mems %q: want numbers and ranges, e.g. 0-3,7", f.mems)
	}
	l.Mems = f.mems
	return nil
}

// isNumberList reports whether text has the form of a list of cpuset(7), for example 0-3,7.
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
		high, err := strconv.ParseUint(last, 10, 16)
		if isRange && (err != nil || high < low) {
			return false
		}
	}
	return true
}

func (f *limitFlags) parsePids(l *spec.Limits, c Config) error {
	switch {
	case f.pids < -1:
		return fmt.Errorf("--pids-limit %d: want a number of processes, or -1 for no limit", f.pids)
	case f.pids > 0:
		l.Asked.Pids = f.pids
	case f.flags.Changed("pids-limit"):
	case c.Containers.PidsLimit == nil:
		l.Standing.Pids = podmanPids
	default:
		l.Standing.Pids = max(*c.Containers.PidsLimit, 0)
	}
	return nil
}

// cgroupManager returns the maker of cgroups. Distributions ship containers.conf with the value systemd, so this value
// means the first manager that works.
func (f *limitFlags) cgroupManager(c Config) (cgroup.Manager, error) {
	switch {
	case f.manager != "":
		return cgroup.Manager(f.manager), CheckManager(f.manager)
	case c.Containers.Cgroups == "disabled":
		return cgroup.Disabled, nil
	case c.Engine.CgroupManager == "cgroupfs":
		return cgroup.CgroupFS, nil
	}
	return cgroup.Auto, nil
}

// CheckManager refuses a --cgroup-manager that does not exist.
func CheckManager(name string) error {
	if !slices.Contains([]string{"", "systemd", "cgroupfs", "disabled"}, name) {
		return fmt.Errorf("--cgroup-manager %q: choose systemd, cgroupfs or disabled", name)
	}
	return nil
}

// userBus returns the address of the user's D-Bus, or "".
func userBus(env spec.Lookup) string {
	if address, _ := env("DBUS_SESSION_BUS_ADDRESS"); address != "" {
		return address
	}
	if dir, _ := env("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return "unix:path=" + filepath.Join(dir, "bus")
	}
	return ""
}

// given returns the flags that ask for a controller, for messages.
func (f *limitFlags) given() (out []spec.LimitFlag) {
	for _, flag := range []spec.LimitFlag{
		{Name: "--memory", Controller: cgroup.Memory},
		{Name: "--memory-swap", Controller: cgroup.Swap},
		{Name: "--memory-swap", Controller: cgroup.Memory},
		{Name: "--cpus", Controller: cgroup.CPU},
		{Name: "--cpu-period", Controller: cgroup.CPU},
		{Name: "--cpu-quota", Controller: cgroup.CPU},
		{Name: "--cpu-shares", Controller: cgroup.CPU},
		{Name: "--cpuset-cpus", Controller: cgroup.CPUSet},
		{Name: "--cpuset-mems", Controller: cgroup.CPUSet},
		{Name: "--pids-limit", Controller: cgroup.Pids},
	} {
		if f.flags.Changed(strings.TrimPrefix(flag.Name, "--")) {
			out = append(out, flag)
		}
	}
	return out
}

// parseUlimits reads --ulimit and --shm-size over the values of containers.conf. A limit of containers.conf is no demand: a
// lower limit of the caller replaces it. A limit of the command line that the kernel would refuse is refused.
func (f *limitFlags) parseUlimits(h *Host, l *spec.Limits) (err error) {
	if l.Ulimits, l.ShmSize, err = h.Config.ulimits(); err != nil {
		return err
	}

	for _, text := range f.ulimits {
		limit, err := parseUlimit(text)
		if err != nil {
			return fmt.Errorf("--ulimit %w", err)
		}

		highest, err := h.HardLimit(limit.Type)
		if err != nil {
			return fmt.Errorf("--ulimit %q: %w", text, err)
		}
		if limit.Hard > highest {
			return fmt.Errorf("--ulimit %q: the hard limit of %s is above rbuild's own, %s, "+
				"and only root can raise that (limits.conf(5), systemd's LimitXXX=)",
				text, ulimitText(limit.Hard), ulimitText(highest))
		}
		l.Ulimits = setUlimit(l.Ulimits, limit)
	}

	size, err := parseSize(f.shmSize)
	if err != nil {
		return fmt.Errorf("--shm-size %w", err)
	}
	if size != nil {
		l.ShmSize = size
	}
	return nil
}

func ulimitText(n uint64) string {
	if n == math.MaxUint64 {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}

// parseUlimit reads TYPE=SOFT[:HARD], for example nofile=1024:2048; -1 is unlimited.
func parseUlimit(text string) (specs.POSIXRlimit, error) {
	if text == "host" {
		return specs.POSIXRlimit{}, errors.New("host: RUN has the limits of rbuild anyway, " +
			"but nofile=1024:1048576 at most")
	}
	u, err := units.ParseUlimit(text)
	if err != nil {
		return specs.POSIXRlimit{}, fmt.Errorf("%q: want TYPE=SOFT[:HARD]: %w", text, err)
	}
	if u.Soft < -1 || u.Hard < -1 {
		return specs.POSIXRlimit{}, fmt.Errorf("%q: a limit is negative; -1 is unlimited", text)
	}
	return specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard)}, nil
}

// setUlimit adds a limit to the list in place of an earlier limit of the same type.
func setUlimit(list []specs.POSIXRlimit, limit specs.POSIXRlimit) []specs.POSIXRlimit {
	list = slices.DeleteFunc(list, func(l specs.POSIXRlimit) bool { return l.Type == limit.Type })
	return append(list, limit)
}

// maxShm bounds the size of /dev/shm, in bytes: the kernel counts in pages, and numbers beyond any machine are mistakes.
const maxShm = 1 << 50

// parseSize reads a size with a unit, for example 128m. It returns nil if text is empty.
func parseSize(text string) (*int64, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // documented
	}
	n, err := units.RAMInBytes(text)
	if err != nil || n < 0 || n > maxShm {
		return nil, fmt.Errorf("%q: want a number with a unit, e.g. 128m, and at most 1024t", text)
	}
	return &n, nil
}
