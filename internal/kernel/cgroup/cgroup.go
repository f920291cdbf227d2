package cgroup

import (
	"slices"
	"strings"
)

// Manager is who makes cgroups.
type Manager string

// The managers. The zero value is Auto.
const (
	Auto     Manager = ""         // what can be had: Systemd where the user's D-Bus answers, else CgroupFS
	Systemd  Manager = "systemd"  // a transient scope of the user's systemd; cgroup v2 only
	CgroupFS Manager = "cgroupfs" // directories that are the user's already
	Disabled Manager = "disabled" // none: processes stay in the cgroup of the caller
)

// Options of [Prepare] and [Open]. Both must be given the same.
type Options struct {
	Manager Manager
	// Parent is what cgroups are made below, in place of the cgroup of this process: a path from the root of the hierarchies,
	// or with Systemd the name of a slice.
	Parent string
	// Bus is the address of the D-Bus on which the systemd that is to be asked listens; empty: there is none.
	Bus string
	// Tree is where cgroups are made, if /sys/fs/cgroup is sealed.
	Tree *Tree
	// UID is the user's id outside of all user namespaces, by which D-Bus knows him.
	UID int
	// Devices holds processes to the devices that each has, and those that New is given, where real root makes cgroups. It is
	// a second line behind mounts with nodev: where it cannot be done, nothing is held.
	Devices bool
}

// list joins names for people.
func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	if n := len(names) - 1; n > 0 {
		return strings.Join(names[:n], ", ") + " and " + names[n]
	}
	return names[0]
}

// Missing returns an *Error if the limits need controllers that p lacks, and nil if not.
func (p *Parent) Missing(l Limits) error {
	missing := slices.DeleteFunc(l.Controllers(), func(c string) bool { return slices.Contains(p.controllers, c) })
	if len(missing) == 0 {
		return nil
	}
	return p.noController(missing)
}

// Manager is who made p: Systemd or CgroupFS.
func (p *Parent) Manager() Manager { return p.manager }

// Version is that of the hierarchy, 1 or 2.
func (p *Parent) Version() int {
	if p.v2 {
		return 2
	}
	return 1
}

// Path is the cgroup that p makes others in, from the root of the hierarchy; on v1 in that of the first controller.
func (p *Parent) Path() string { return p.name }

// Controllers are those that p has, sorted: Memory, Swap, CPU, CPUSet, Pids and others by the kernel's names.
func (p *Parent) Controllers() []string { return slices.Clone(p.controllers) }
