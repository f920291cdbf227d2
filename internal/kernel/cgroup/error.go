package cgroup

import (
	"fmt"
	"path"
	"slices"

	"codeberg.org/rbuild/rbuild/internal/remedy"
)

// Reason says why cgroups or a controller are unavailable.
type Reason string

// The reasons of an [Error].
const (
	Off          Reason = "off"           // the manager is Disabled
	NoHierarchy  Reason = "no-hierarchy"  // no cgroup file system is mounted
	NotDelegated Reason = "not-delegated" // the parent directory does not belong to the user
	ReadOnly     Reason = "read-only"     // the parent directory is on a read-only mount, as in most containers
	Busy         Reason = "busy"          // the parent holds other processes, so its children can have no controllers
	NoBus        Reason = "no-bus"        // the user has no D-Bus
	Refused      Reason = "refused"       // the user's systemd made no scope
	NoParent     Reason = "no-parent"     // Options.Parent cannot be used
	NoController Reason = "no-controller" // cgroups are available, a controller is not
)

// Error has the cause and the remedy on one line.
type Error struct {
	Reason Reason
	Detail string // the cause
	Fix    string // the remedy: a command to run or an option to change; empty if none is known
	Err    error  // the system's error; may be nil
}

// Error returns "detail; fix".
func (e *Error) Error() string { return remedy.Text(e.Remedy()) }

// Remedy returns Detail and Fix (package remedy).
func (e *Error) Remedy() (why, do string) { return e.Detail, e.Fix }

// Unwrap returns the system's error.
func (e *Error) Unwrap() error { return e.Err }

// The remedies.
const (
	fixPod = "in a pod set resources.limits instead (or let containerd delegate: " +
		"cgroup_writable of the runtime class, Kubernetes CgroupOptions)"
	fixScope = "run it in a scope of its own: systemd-run --user --scope -p Delegate=yes rbuild ..."
	fixInit  = "move them into one below it before: mkdir /sys/fs/cgroup/init && " +
		"xargs -rn1 </sys/fs/cgroup/cgroup.procs >/sys/fs/cgroup/init/cgroup.procs"
	fixBus = "install dbus-user-session and log in again, " +
		"or run: loginctl enable-linger, with XDG_RUNTIME_DIR=/run/user/UID set"
	fixV1 = "boot with systemd.unified_cgroup_hierarchy=1, or let root delegate: " +
		"for c in memory pids cpu cpuacct cpuset; " +
		"do mkdir /sys/fs/cgroup/$c/NAME && chown -R USER /sys/fs/cgroup/$c/NAME; done, " +
		"and use --cgroup-manager cgroupfs --cgroup-parent /NAME"
	fixDelegate = `run as root: mkdir -p /etc/systemd/system/user@.service.d && ` +
		`printf '[Service]\nDelegate=cpu cpuset io memory pids\n' ` +
		`> /etc/systemd/system/user@.service.d/delegate.conf && ` +
		`systemctl daemon-reload, then log in again`
	fixSwap      = "boot with swapaccount=1 on the kernel's command line, or leave out the limit of swap"
	fixContainer = "let what started this container delegate the controller"
)

// noController is the error for controllers that a parent lacks.
func (p *Parent) noController(missing []string) *Error {
	e := &Error{Reason: NoController, Fix: fixContainer}
	only := list(slices.DeleteFunc(p.Controllers(), func(c string) bool { return c == Swap }))
	switch {
	case p.busy:
		e.Reason, e.Fix = Busy, fixInit
		if p.underSystemd() {
			e.Fix = fixScope
		}
		e.Detail = fmt.Sprintf(
			"cgroup %s holds other processes, a shell for example, so that no cgroup below it can have controllers",
			path.Dir(p.name),
		)
	case len(missing) == 1 && missing[0] == Swap:
		e.Detail, e.Fix = "the kernel does not account swap space to cgroups", fixSwap
	case p.manager == Systemd:
		e.Detail = fmt.Sprintf("the user's systemd has no %s to delegate, only %s", list(missing), only)
		e.Fix = fixDelegate
	case p.v2:
		e.Detail = fmt.Sprintf("cgroup %s has no controller %s, only %s", p.name, list(missing), only)
		if p.underSystemd() {
			e.Fix = fixDelegate
		}
	default:
		e.Detail = fmt.Sprintf("cgroup v1, and no directory of the controller %s is delegated to the user",
			list(missing))
		e.Fix = fixV1
	}

	return e
}
