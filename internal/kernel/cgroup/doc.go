// Package cgroup gives each of several processes a control group of its own, as far as the machine lets the user have
// one: it limits what they use, tells what they used, and kills what they leave.
//
//	release, err := cgroup.Prepare(options)   in a process outside of all namespaces, before it starts the builder
//	p, err := cgroup.Open(ctx, options)       where cgroups are made: an *Error says why not, and what mends it
//	g, err := p.New(limits)                   one cgroup, for one process and all that it starts
//	g.Dir(), g.Add(pid)                       a process is born in it (clone3(2) with CLONE_INTO_CGROUP), or moved there
//	g.Usage()                                 what it used so far, when it has ended for example
//	g.Remove()                                whatever is left in it is killed
//	p.Close()
//
// There are three ways to have one. On cgroup v2 the user's systemd gives a transient scope with delegation, by D-Bus
// ([Systemd]); or a subtree is the user's own already, because systemd or a container engine delegated the cgroup of this
// process ([CgroupFS]). On v1 root must have made a directory for the user in the hierarchy of each controller ([CgroupFS]
// too). What can be had is found out by doing it, never by reading configuration.
//
//	SCOPE or own cgroup          controllers are enabled for what is below it, so that it may hold no process itself
//	  rbuild-XXXX                with CgroupFS only: systemd's scope is the build's alone
//	    builder                  this process, on v2
//	    run-1, run-2, ...        those that New makes
//
// A directory rbuild-XXXX is locked (flock(2)) as long as its owner lives; the next to come removes what a dead one left.
//
// Setting limits, their conversion between v1 and v2, and the reading of cgroup files are those of runc, as a library
// (github.com/opencontainers/cgroups). Its managers as a whole do not fit: they make a scope for each container, ask
// busctl for the user's id in a user namespace, and enable controllers in cgroups above that belong to systemd.
//
// Where real root makes cgroups, a group can hold its processes to their devices ([Options].Devices): by the devices
// controller on v1, by a program of the kernel's on v2.
//
// This package limits neither the builder itself nor I/O rates.
//
// Sources: cgroups(7), the kernel's admin-guide/cgroup-v2.rst and cgroup-v1/, clone(2), org.freedesktop.systemd1(5),
// systemd.resource-control(5), and https://systemd.io/CGROUP_DELEGATION.
package cgroup
