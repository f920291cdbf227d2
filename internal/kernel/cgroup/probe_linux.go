package cgroup

import (
	"context"
	"errors"
)

// Report is what can be had of cgroups.
type Report struct {
	Manager     Manager
	Version     int
	Path        string   // the cgroup in which others are made
	Controllers []string // as [Parent.Controllers] has them
	// Missing says which controllers that limits need cannot be had, why and what mends it; nil: there are all.
	Missing *Error
}

// Probe finds out what [Open] gives, by doing it, and gives it back. An *Error says why there is nothing. It is for the
// process that the user started, and stays in systemd's scope if it was put into one.
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
