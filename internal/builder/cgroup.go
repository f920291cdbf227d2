package builder

import (
	"context"
	"time"

	"codeberg.org/rbuild/rbuild/internal/kernel/cgroup"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/internal/progress"
)

// stepGroup is the cgroup of one RUN; the zero value: it has none.
type stepGroup struct{ *cgroup.Group }

// reached says which limit a step has reached.
type reached struct {
	text   string
	killed bool // processes were killed for it
}

// cgroup makes one for a RUN.
func (o *RunOptions) cgroup(ctx context.Context) (stepGroup, error) {
	if o.NewCgroup == nil {
		return stepGroup{}, nil
	}
	g, err := o.NewCgroup(ctx)
	return stepGroup{g}, err
}

// attach makes the process begin in the group.
func (g stepGroup) attach(c *sandbox.Config) {
	if g.Group != nil {
		c.Cgroup = g.Group
	}
}

// remove kills what is left and removes the group.
func (g stepGroup) remove() error {
	if g.Group == nil {
		return nil
	}
	return g.Remove()
}

// account tells the report what the step used, by its group, or by the process's own account where there is none.
func (g stepGroup) account(state sandbox.State, r *report) reached {
	const block = 512 // of ru_inblock and ru_oublock (task_io_accounting_ops.h of the kernel)
	usage := &progress.Usage{
		CPUSeconds: time.Duration(state.Rusage.Utime.Nano() + state.Rusage.Stime.Nano()).Seconds(), CPUSource: progress.Rusage,
		Memory: state.Rusage.Maxrss << 10, MemorySource: progress.Rusage,
		Read: state.Rusage.Inblock * block, Written: state.Rusage.Oublock * block, IOSource: progress.Rusage,
	}

	r.usage = usage
	if g.Group == nil {
		return reached{}
	}

	u := g.Usage()
	if u.CPU >= 0 {
		usage.CPUSeconds, usage.CPUSource = u.CPU.Seconds(), progress.Cgroup
	}
	if u.PeakMemory >= 0 {
		usage.Memory, usage.MemorySource = u.PeakMemory, progress.Cgroup
	}
	if u.Read >= 0 {
		usage.Read, usage.Written, usage.IOSource = u.Read, u.Written, progress.Cgroup
	}

	return reached{g.Limits().Reached(u), u.OOMKills > 0}
}
