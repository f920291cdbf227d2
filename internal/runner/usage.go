package runner

import (
	"time"

	"codeberg.org/rbuild/rbuild/internal/kernel/cgroup"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/internal/progress"
)

// reached is the limit that a process reached. The zero value: none.
type reached struct {
	text   string // for example "memory limit 64 MiB reached"
	killed bool   // processes were killed for the limit
}

// blockSize is the unit of ru_inblock and ru_oublock in bytes (task_io_accounting_ops.h of the
// kernel).
const blockSize = 512

// usageOf returns the resources that a process used, by its cgroup, or by the process's own account
// where group is nil.
func usageOf(state sandbox.State, group *cgroup.Group) (*progress.Usage, reached) {
	usage := &progress.Usage{
		CPUSeconds:   time.Duration(state.Rusage.Utime.Nano() + state.Rusage.Stime.Nano()).Seconds(),
		CPUSource:    progress.Rusage,
		Memory:       state.Rusage.Maxrss << 10,
		MemorySource: progress.Rusage,
		Read:         state.Rusage.Inblock * blockSize,
		Written:      state.Rusage.Oublock * blockSize,
		IOSource:     progress.Rusage,
	}
	if group == nil {
		return usage, reached{}
	}

	u := group.Usage()
	if u.CPU >= 0 {
		usage.CPUSeconds = u.CPU.Seconds()
		usage.CPUSource = progress.Cgroup
	}
	if u.PeakMemory >= 0 {
		usage.Memory = u.PeakMemory
		usage.MemorySource = progress.Cgroup
	}
	if u.Read >= 0 {
		usage.Read = u.Read
		usage.Written = u.Written
		usage.IOSource = progress.Cgroup
	}

	return usage, reached{group.Limits().Reached(u), u.OOMKills > 0}
}
