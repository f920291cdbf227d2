package spec

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"codeberg.org/rbuild/rbuild/internal/kernel/cgroup"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
)

// Limits says how much of the machine RUN may use, and who enforces that.
type Limits struct {
	Asked      cgroup.Limits // by the user: must be enforced, or the build fails
	Standing   cgroup.Limits // by default: enforced where that is possible
	Configured bool          // Standing holds values of containers.conf; values that cannot be enforced are reported
	BestEffort bool          // enforce those of Asked that can be enforced, and report the rest
	Cgroups    cgroup.Options

	Flags  []LimitFlag // that the user gave, for messages
	Remedy string      // for errors about Asked: how the user allows best effort

	Ulimits []specs.POSIXRlimit // over the defaults; a limit above the caller's hard limit is lowered to that
	ShmSize *int64              // bytes of /dev/shm; 0: no limit; nil: 64 MiB
}

// LimitFlag is a flag that asked for a limit of a controller, for example --memory and "memory".
type LimitFlag struct{ Name, Controller string }

// Security says what the processes of RUN may do, and which users they know.
type Security struct {
	Capabilities    []string // before CapAdd and CapDrop; nil: docker's defaults
	CapAdd, CapDrop []string
	Seccomp         File // profile in docker's format; none: docker's own
	NoSeccomp       bool
	AppArmor        File     // Path is the name of a profile; none: the caller's
	NoNewPrivileges bool     // an executed file gives no more rights
	Mask            []string // absolute paths to hide
	Unmask          []string // patterns of paths that are hidden or read-only by default
	UnmaskFrom      string   // for errors
	Devices         []Device
	Groups          []string // supplementary groups beside those of the user: names or numbers
	KeepGroups      bool     // the caller's supplementary groups in place of all others
	IDs             IDs
	CgroupNames     sandbox.CgroupNames
}

// Device is a device of the host, or a directory of devices, for RUN.
type Device struct {
	Path, Dest string // both absolute
	From       string
}

// IDs are the user and group IDs that RUN knows.
type IDs struct {
	UIDs, GIDs []sandbox.IDRange // none: all; 0 is always among them
	Host       bool              // the user asked for the IDs of the host, which real root cannot give

	UIDsFrom, GIDsFrom, HostFrom string // for errors
}

// CommonIDs returns the number of IDs that are in both ranges.
func CommonIDs(a, b sandbox.IDRange) uint64 {
	start := max(a.First, b.First)
	end := min(uint64(a.First)+uint64(a.Count), uint64(b.First)+uint64(b.Count))
	return max(end, uint64(start)) - uint64(start)
}
