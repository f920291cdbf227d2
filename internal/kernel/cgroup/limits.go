package cgroup

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/opencontainers/cgroups"
)

// The controllers that limits need. Swap is a part of [Memory] that a kernel may lack.
const (
	Memory = "memory"
	Swap   = "swap"
	CPU    = "cpu"
	CPUSet = "cpuset"
	Pids   = "pids"
)

// Limits are the limits of one cgroup. The zero value limits nothing.
type Limits struct {
	// Memory is in bytes. 0: no limit.
	Memory int64
	// MemorySwap is memory and swap space together, in bytes; -1: no limit. 0: twice Memory, if the
	// kernel can limit swap space.
	MemorySwap int64
	// CPUQuota is the CPU time in each CPUPeriod, both in microseconds. 0 or less: no limit.
	CPUQuota int64
	// CPUPeriod is 1000 to 1000000. 0: 100000.
	CPUPeriod uint64
	// CPUShares is the weight against other cgroups when CPU time is short, 2 to 262144. 0: the
	// usual weight, 1024.
	CPUShares uint64
	// CPUs and Mems are lists of processors and memory nodes as in cpuset(7): "0-3,7". Empty: all.
	CPUs, Mems string
	// Pids bounds the number of processes and threads at one time. 0: no limit.
	Pids int64
	// Files are values for further files of a cgroup of v2: {"memory.high": "1G"}.
	Files map[string]string
}

// Controllers returns the controllers that the limits need, sorted.
func (l Limits) Controllers() []string {
	need := map[string]bool{
		Memory: l.Memory != 0 || l.MemorySwap != 0,
		Swap:   l.MemorySwap > 0,
		CPU:    l.CPUQuota > 0 || l.CPUPeriod != 0 || l.CPUShares != 0,
		CPUSet: l.CPUs != "" || l.Mems != "",
		Pids:   l.Pids != 0,
	}

	for file := range l.Files {
		controller, _, _ := strings.Cut(file, ".")
		need[controller] = true
	}

	maps.DeleteFunc(need, func(_ string, needed bool) bool { return !needed })
	delete(need, "cgroup") // files that every cgroup has
	return slices.Sorted(maps.Keys(need))
}

// Only returns the limits that the controllers can enforce.
func (l Limits) Only(controllers []string) Limits {
	has := func(name string) bool { return slices.Contains(controllers, name) }
	if !has(Memory) {
		l.Memory, l.MemorySwap = 0, 0
	}
	if !has(Swap) {
		l.MemorySwap = 0
	}
	if !has(CPU) {
		l.CPUQuota, l.CPUPeriod, l.CPUShares = 0, 0, 0
	}
	if !has(CPUSet) {
		l.CPUs, l.Mems = "", ""
	}
	if !has(Pids) {
		l.Pids = 0
	}
	files := map[string]string{}
	for file, value := range l.Files {
		if controller, _, _ := strings.Cut(file, "."); controller == "cgroup" || has(controller) {
			files[file] = value
		}
	}

	l.Files = files

	return l
}

// resources returns the limits as the library has them. swap: the kernel can limit swap space.
func (l Limits) resources(v2, swap bool) *cgroups.Resources {
	r := &cgroups.Resources{
		Memory: l.Memory, MemorySwap: l.MemorySwap, CpuQuota: max(l.CPUQuota, 0), CpuPeriod: l.CPUPeriod,
		CpusetCpus: l.CPUs, CpusetMems: l.Mems, SkipDevices: true,
	}

	if l.MemorySwap == 0 && l.Memory > 0 && swap {
		r.MemorySwap = 2 * l.Memory
	}
	if l.Pids > 0 {
		r.PidsLimit = &l.Pids
	}
	if v2 {
		r.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(l.CPUShares)
		r.Unified = l.Files
	} else {
		r.CpuShares = l.CPUShares
	}

	return r
}

// bytes returns a size for a message: "64 MiB", "1.5 GiB".
func bytes(n int64) string {
	return units.CustomSize("%.4g %s", float64(n), 1024, []string{"B", "KiB", "MiB", "GiB", "TiB"})
}

// Reached returns the limits that ended processes or prevented their start, for example "memory
// limit 64 MiB reached". Empty: none.
func (l Limits) Reached(u Usage) string {
	var reached []string
	switch {
	case u.OOMKills == 0:
	case l.Memory > 0:
		reached = append(reached, fmt.Sprintf("memory limit %s reached", bytes(l.Memory)))
	default:
		reached = append(reached, "out of memory: the machine's, or the limit of a cgroup around this one, is reached")
	}

	if u.ForksRefused > 0 && l.Pids > 0 {
		reached = append(reached, fmt.Sprintf("pids limit %d reached", l.Pids))
	}
	return strings.Join(reached, ", ")
}
