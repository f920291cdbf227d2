// Package cgroup makes a control group for each process, where the machine allows the user to make
// one. A control group (cgroup) limits the resources of a process and its children, measures their
// usage, and makes it sure that all of them end.
//
//	release, err := cgroup.Prepare(options)   in a process outside of all namespaces, before it starts the builder
//	p, err := cgroup.Open(ctx, options)       where cgroups are made: an *Error has the reason and the remedy
//	g, err := p.New(limits)                   one cgroup, for one process and its children
//	g.Dir(), g.Add(pid)                       start a process in the cgroup (clone3(2) with CLONE_INTO_CGROUP), or move it
//	g.Usage()                                 resources used so far, for example after the process has ended
//	g.Remove()                                kill the remaining processes and remove the cgroup
//	p.Close()
//
// A user gets cgroups in three ways. On cgroup v2 the user's systemd makes a transient scope with
// delegation, by D-Bus ([Systemd]); or systemd or a container engine has delegated the cgroup of
// this process to the user ([CgroupFS]). On v1 root must have made a directory for the user in the
// hierarchy of each controller ([CgroupFS], too). The package tries each way and never decides by
// configuration files.
//
//	SCOPE or own cgroup          controllers are enabled for its children, so it may hold no process itself
//	  rbuild-XXXX                with CgroupFS only: systemd's scope belongs to this process alone
//	    builder                  this process, on v2
//	    run-1, run-2, ...        the cgroups that New makes
//
// A directory rbuild-XXXX is locked (flock(2)) as long as its owner lives. The next process removes
// the directories of dead owners.
//
// Setting limits, their conversion between v1 and v2, and the reading of cgroup files are those of
// runc, as a library (github.com/opencontainers/cgroups). This package does not use the library's
// managers: they make a scope for each container, ask busctl for the user's ID in a user namespace,
// and enable controllers in systemd's cgroups above.
//
// Real root can restrict the devices of a cgroup's processes ([Options].Devices): by the devices
// controller on v1, by a BPF program on v2.
//
// This package limits neither the calling process nor I/O rates.
//
// Sources: cgroups(7), the kernel's admin-guide/cgroup-v2.rst and cgroup-v1/, clone(2),
// org.freedesktop.systemd1(5), systemd.resource-control(5), and
// https://systemd.io/CGROUP_DELEGATION.
package cgroup
