package runner

import (
	"context"
	"net/netip"
	"os"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"codeberg.org/rbuild/rbuild/internal/kernel/binfmt"
	"codeberg.org/rbuild/rbuild/internal/kernel/cgroup"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/internal/source/sshagent"
)

// Options is the part of a process's description that all processes of a build share. The zero
// value is a process on the host's network, confined by docker's defaults, without volumes, secrets
// and limits.
type Options struct {
	Network  Network
	Etc      Etc
	Security Security
	Limits   Limits

	Devices []Device
	Volumes []Volume
	// CompatVolumes discards the data that a process writes below Command.Volumes
	// (--compat-volumes).
	CompatVolumes bool
	// Secrets are the values of secrets, by ID. A secret enters no cache key, no log and no layer.
	Secrets map[string][]byte
	// SSH are the agents for mounts of type SSH, by ID.
	SSH map[string]*sshagent.Agent
	// Stdin is the standard input of every process. Nil: /dev/null.
	Stdin *os.File

	// Machine is the platform of this machine.
	Machine ocispec.Platform
	// Emulators make programs of other architectures executable. Nil: such programs fail.
	Emulators *binfmt.Emulators
	// Trusted: the caller is root of the machine, not only of a user namespace. The marks of
	// overlayfs are then extended attributes trusted.*, and the paths that docker hides below /proc
	// stay hidden from insecure processes.
	Trusted bool
}

// NetworkMode names a network, as --network does.
type NetworkMode string

// The modes of --network. The zero value means Host.
const (
	Host    NetworkMode = "host"    // the host's network
	None    NetworkMode = "none"    // a loopback interface only
	Private NetworkMode = "private" // a network namespace joined to the host's by pasta or slirp4netns
)

// Network is the network of processes.
type Network struct {
	Mode NetworkMode
	// AllowHost lets a Command have the host's network where Mode is another.
	AllowHost bool
	// Helper is the path of pasta or slirp4netns, for Private. See sandbox.FindNetworkHelper.
	Helper string
}

// Etc describes /etc/hosts, /etc/resolv.conf and /etc/hostname, which are bound read-only over the
// image's files.
type Etc struct {
	Hosts           []HostEntry  // additional lines of /etc/hosts
	DNS             []netip.Addr // nameservers in place of the host's; nil: the host's
	Search          []string     // search domains in place of the host's; "." alone: none; nil: the host's
	ResolverOptions []string     // options of resolv.conf(5) beside the host's, for example "ndots:2"

	// KeepHosts, KeepResolver and KeepHostname leave the image's own file visible and writable.
	KeepHosts, KeepResolver, KeepHostname bool
}

// HostEntry is a line of /etc/hosts.
type HostEntry struct {
	Name string
	Addr netip.Addr
}

// Device is a device of the host that is bound into processes.
type Device struct {
	Source *os.File // pinned when the command line was read
	Path   string   // of the device on the host, for example "/dev/fuse"
	Dest   string   // absolute path in the image
}

// Volume is a file or directory of the host that is bound into processes.
type Volume struct {
	Source   *os.File // pinned when the command line was read
	Text     string   // as the command line has it, for example "/srv/data:/data:ro"
	Dest     string   // absolute path in the image
	ReadOnly bool
	Overlay  bool     // Source is a directory; data that the process writes there is discarded
	Options  []string // of nosuid, nodev, noexec
}

// Security is what processes may do. The zero value is docker's defaults (package sandbox). An
// insecure Command loses the defaults only: every restriction that Security names holds for an
// insecure Command, too.
type Security struct {
	Capabilities    []string // the set to begin with; nil: docker's 14
	CapAdd, CapDrop []string // applied to Capabilities as sandbox.MergeCapabilities does
	Seccomp         []byte   // a profile in docker's format in place of docker's own; nil: docker's
	NoSeccomp       bool     // no profile
	AppArmor        string   // name of a profile; empty: the caller's
	NoNewPrivileges bool     // executing a program never raises the rights of a process
	Mask            []string // absolute paths to hide
	Unmask          []string // patterns (path.Match) of paths that stay visible and writable against the default

	Groups     []string // supplementary groups, names or numbers, beside the user's
	KeepGroups bool     // the caller's supplementary groups in place of all others

	UIDs, GIDs  []sandbox.IDRange   // the IDs that a process knows, 0 among them; nil: all
	CgroupNames sandbox.CgroupNames // how a process sees names of cgroups
}

// Limits bounds the resources of a process. The zero value has docker's resource limits and no
// others.
type Limits struct {
	Rlimits []specs.POSIXRlimit // over docker's; the caller's hard limits bound them
	ShmSize *int64              // of /dev/shm in bytes; 0: no limit; nil: 64 MiB
	Silence Silence
	// NewCgroup makes the cgroup of one process. It may return nil: there is none to be had. A nil
	// function: no process gets a cgroup.
	NewCgroup func(ctx context.Context) (*cgroup.Group, error)
}

// Silence ends a process that prints nothing for too long.
type Silence struct {
	Limit time.Duration // 0: no limit
	Err   error         // the error of a process that exceeded Limit
}
