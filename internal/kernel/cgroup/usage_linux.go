package cgroup

import (
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fscommon"
)

// Usage is the sum of the resources that all processes of a group have used, ended processes
// included.
type Usage struct {
	CPU           time.Duration // user and system; -1: unknown
	PeakMemory    int64         // bytes at the same time, page cache of files included; -1: unknown
	Read, Written int64         // bytes from and to disks; -1: unknown
	OOMKills      uint64        // processes that the kernel killed because memory was exhausted
	ForksRefused  uint64        // starts of processes that the limit of processes prevented
}

// Usage returns the resources used so far. Values that the kernel or the delegation does not
// provide are unknown.
func (g *Group) Usage() Usage {
	if dir, ok := g.paths[""]; ok {
		u := Usage{CPU: -1, Read: -1, Written: -1, PeakMemory: number(dir, "memory.peak")} // Linux 5.19
		if usec, err := fscommon.GetValueByKey(dir, "cpu.stat", "usage_usec"); err == nil {
			u.CPU = time.Duration(usec) * time.Microsecond
		}
		if text, err := cgroups.ReadFile(dir, "io.stat"); err == nil {
			u.Read, u.Written = traffic(text)
		}
		u.OOMKills, _ = fscommon.GetValueByKey(dir, "memory.events", "oom_kill")
		u.ForksRefused, _ = fscommon.GetValueByKey(dir, "pids.events", "max")
		return u
	}

	u := Usage{CPU: -1, Read: -1, Written: -1, PeakMemory: number(g.paths[Memory], "memory.max_usage_in_bytes")}
	if nsec := number(g.paths["cpuacct"], "cpuacct.usage"); nsec >= 0 {
		u.CPU = time.Duration(nsec)
	}
	u.OOMKills, _ = fscommon.GetValueByKey(g.paths[Memory], "memory.oom_control", "oom_kill")
	u.ForksRefused, _ = fscommon.GetValueByKey(g.paths[Pids], "pids.events", "max")
	return u
}

// number reads a file that holds a number; -1 if that fails.
func number(dir, file string) int64 {
	n, err := fscommon.GetCgroupParamUint(dir, file)
	if err != nil || n > 1<<62 {
		return -1
	}
	return int64(n)
}

// traffic adds up the lines of io.stat, for example "8:0 rbytes=1 wbytes=2 rios=3 ..."
// (cgroup-v2.rst).
func traffic(text string) (read, written int64) {
	for field := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(field, "=")
		n, err := strconv.ParseInt(value, 10, 64)
		switch {
		case err != nil:
		case key == "rbytes":
			read += n
		case key == "wbytes":
			written += n
		}
	}

	return read, written
}
