package cgroup

import (
	"context"
	"errors"
)

// Report describes the available cgroups.
type Report struct {
	Manager     Manager
	Version     int
	Path        string   // as [Parent.Path]
	Controllers []string // as [Parent.Controllers]
	// Missing names the unavailable controllers that limits need, with cause and remedy. Nil: all
	// are available.
	Missing *Error
}

// Probe calls [Open] and [Parent.Close] and describes the Parent. If cgroups are unavailable, the
// error is an *Error. Probe is for the process that the user started. With Systemd that process
// stays in the scope.
func Probe(ctx context.Context, o Options) (r Report, err error) {
	release, err := Prepare(o)
	defer func() { err = errors.Join(err, release()) }()
	if err != nil {
		return r, err
	}

	p, err := Open(ctx, o)
	if err != nil {
		return r, err
	}

	all := Limits{Memory: 1, MemorySwap: 1, CPUShares: 2, CPUs: "0", Pids: 1}
	r = Report{Manager: p.manager, Version: p.Version(), Path: p.name, Controllers: p.Controllers()}
	errors.As(p.Missing(all), &r.Missing)
	return r, p.Close()
}
