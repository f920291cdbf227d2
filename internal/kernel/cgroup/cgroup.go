package cgroup

import (
	"slices"
	"strings"
)

// Manager says who makes cgroups.
type Manager string

// The managers. The zero value is Auto.
const (
	Auto     Manager = ""         // Systemd if the user's D-Bus answers, else CgroupFS
	Systemd  Manager = "systemd"  // a transient scope of the user's systemd; cgroup v2 only
	CgroupFS Manager = "cgroupfs" // in directories that are delegated to the user
	Disabled Manager = "disabled" // no cgroups: processes stay in the cgroup of the caller
)

// Options of [Prepare] and [Open]. Both must get the same Options.
type Options struct {
	Manager Manager
	// Parent is the cgroup in which cgroups are made: a path from the root of the hierarchies, for
	// example "/user.slice/x", or with Systemd the name of a slice. Empty: the cgroup of this
	// process.
	Parent string
	// Bus is the address of the D-Bus of the user's systemd, for example
	// "unix:path=/run/user/1000/bus". Empty: there is none.
	Bus string
	// Tree gives access to /sys/fs/cgroup after Seal. Nil: not sealed.
	Tree *Tree
	// UID is the user's ID outside of all user namespaces. D-Bus knows the user by this ID.
	UID int
	// Devices restricts processes to the usual devices and the devices that New gets. Only real
	// root can do that; otherwise, and after an error, nothing is restricted. The restriction is a
	// second line of defence behind mounts with nodev.
	Devices bool
}

// list joins names for a message: "cpu, io and memory".
func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	if n := len(names) - 1; n > 0 {
		return strings.Join(names[:n], ", ") + " and " + names[n]
	}
	return names[0]
}

// Missing returns an *Error if the limits need controllers that p lacks, and nil otherwise.
func (p *Parent) Missing(l Limits) error {
	missing := slices.DeleteFunc(l.Controllers(), func(c string) bool { return slices.Contains(p.controllers, c) })
	if len(missing) == 0 {
		return nil
	}
	return p.noController(missing)
}

// Manager returns the manager of p: Systemd or CgroupFS.
func (p *Parent) Manager() Manager { return p.manager }

// Version returns the version of the hierarchy, 1 or 2.
func (p *Parent) Version() int {
	if p.v2 {
		return 2
	}
	return 1
}

// Path returns the path of the cgroup in which p makes cgroups, from the root of the hierarchy; on
// v1 the hierarchy of the first controller.
func (p *Parent) Path() string { return p.name }

// Controllers returns the controllers of p, sorted: Memory, Swap, CPU, CPUSet, Pids and others by
// the kernel's names.
func (p *Parent) Controllers() []string { return slices.Clone(p.controllers) }
