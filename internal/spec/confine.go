package spec

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"codeberg.org/rbuild/rbuild/internal/kernel/cgroup"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/internal/runner"
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
	runner.Security      // Seccomp stays empty here: the engine reads SeccompFile
	SeccompFile     File // profile in docker's format; no path: docker's own profile

	HostIDs bool // the user asked for the IDs of the host, which real root cannot give
	Devices []Device

	From SecurityFrom
}

// SecurityFrom names the sources of values of Security in errors, for example "--userns-uid-map".
type SecurityFrom struct {
	AppArmor, Unmask    string
	UIDs, GIDs, HostIDs string
}

// Device is a device of the host, or a directory of devices, for RUN.
type Device struct {
	Path, Dest string // both absolute
	From       string
}

// CommonIDs returns the number of IDs that are in both ranges.
func CommonIDs(a, b sandbox.IDRange) uint64 {
	start := max(a.First, b.First)
	end := min(uint64(a.First)+uint64(a.Count), uint64(b.First)+uint64(b.Count))
	return max(end, uint64(start)) - uint64(start)
}
