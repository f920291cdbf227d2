// Package userns makes a program root in a user namespace, without help of real root beyond
// newuidmap and newgidmap.
//
// # Use
//
// The program runs as two processes of the same binary with the same arguments. The launcher is the
// process that the user started. It calls [Enter], which starts the builder in new namespaces, maps
// IDs for the builder, forwards signals and returns the exit code. The builder is the process that
// [Join] makes root:
//
//	func main() {
//		state, err := userns.Join() // the first call: no fork and no open file before Join
//		if err != nil {
//			log.Fatal(err)
//		}
//		if state == nil {
//			code, err := userns.Enter(context.Background(), userns.Options{PID: true})
//			if err != nil {
//				log.Fatal(err)
//			}
//			os.Exit(code)
//		}
//		// UID 0 here, in a mount namespace and a PID namespace of its own.
//	}
//
// # Modes
//
// Enter chooses a [Mode] by the user and the namespace that it finds. It tries the mode and never
// falls back to a weaker mode without the permission of the caller: a single ID replaces ID ranges
// only with Options.AllowSingle, and State.Warnings says so. If an ID cannot be mapped or a
// namespace cannot be created, the error is an [*Error] with the reason and the remedy.
//
// # Guarantees
//
// No process of the builder survives the launcher: the builder receives SIGKILL when the launcher
// dies, and the kernel then kills the PID namespace of the builder.
//
// The steps of both processes:
//
//	launcher                                   builder
//	  choose a mode
//	  clone(NEWUSER|NEWNS|NEWPID), exec ------->  the Go runtime starts, Join waits on the socket
//	  newuidmap, newgidmap at the same time       :
//	  {mode, uid, gid} ------------------------>  setgroups, setresgid, setresuid, capset,
//	                                              parent death signal, mounts become slaves, /proc
//	  <------------------------- {ok | stage, errno}
//	  welcome --------------------------------->  Join returns
//	  forward signals, wait
//
// # Limits
//
// The file of the program is on a read-only mount for the builder, so that a process in the
// namespace cannot change the program. This needs Linux 5.12; on older kernels State.Warnings says
// that the protection is missing. The builder is PID 1 of the PID namespace but does not reap
// orphaned processes: they end with the builder. The package mounts /proc only. Pods that hide
// parts of /proc forbid this mount; the builder then keeps the outer /proc, and State.OuterProc
// reports that. The PID namespace itself is never given up. Enter changes no state of the calling
// process except its signal handlers. It finds the name and the IDs of the user in /etc/passwd,
// /etc/subuid and /etc/subgid, or with getent(1) and getsubids(1).
//
// # Stability
//
// The package is at v0: its API can change with each minor version. The texts of errors and
// warnings are for people and can change at any time; programs compare [Reason] and [Mode].
//
// Sources: user_namespaces(7), pid_namespaces(7), mount_namespaces(7), capabilities(7),
// newuidmap(1), subuid(5).
package userns

import (
	"fmt"
	"os"
)

// Mode is the way in which the builder becomes root.
type Mode string

const (
	// Root is real root with all capabilities. Enter creates no user namespace.
	Root Mode = "root"
	// Identity is root of a user namespace that exists already, for example of podman unshare, or
	// of a pod with hostUsers: false and CAP_SYS_ADMIN. The builder stays in that user namespace.
	Identity Mode = "identity"
	// Direct is root without CAP_SYS_ADMIN, for example in a pod. Enter writes the ID maps itself.
	Direct Mode = "direct"
	// Helper is an ordinary user with subordinate IDs, which newuidmap and newgidmap map.
	Helper Mode = "helper"
	// Single is a user namespace with one user ID and one group ID. All files belong to root.
	Single Mode = "single"
)

// Options control [Enter]. The zero value makes no PID namespace and accepts no fallback.
type Options struct {
	// PID creates a PID namespace with the builder as its first process, and mounts its /proc.
	PID bool
	// AllowSingle falls back to the mode Single if IDs cannot be mapped, with a warning in State.
	AllowSingle bool
	// KeepGroups keeps the supplementary groups of the user, for files that only a group can read.
	KeepGroups bool
	// Env holds "KEY=value" pairs that are added to the environment of the builder.
	Env []string
	// Files are open files that the builder inherits under the same numbers, for example a socket.
	Files []*os.File
	// HelperDirs lists the directories with newuidmap, newgidmap, getsubids and getent. Nil: the
	// directories of common distributions, for example /usr/bin. PATH is not used.
	HelperDirs []string
}

// State describes the namespaces of the builder.
type State struct {
	Mode         Mode
	UID, GID     int      // the effective user and group of the launcher
	UIDMap       []IDMap  // /proc/self/uid_map of the builder
	GIDMap       []IDMap  // /proc/self/gid_map of the builder
	PIDNamespace bool     // the builder is PID 1 of its own PID namespace
	OuterProc    bool     // /proc belongs to an outer PID namespace: os.Getpid does not name the builder there
	Warnings     []string // one line each, for the user to read
}

// Rootless reports whether the builder is root of a user namespace only. Mounts, device nodes and
// trusted.* attributes then have the restrictions of user namespaces.
func (s *State) Rootless() bool { return s.Mode != Root }

// IDMap is an extent of a map of user or group IDs, user_namespaces(7).
type IDMap struct {
	Inside  uint32 `json:"inside"`  // first ID in the namespace
	Outside uint32 `json:"outside"` // first ID in the parent namespace
	Size    uint32 `json:"size"`    // number of IDs
}

// String returns the extent in the format of /proc/self/uid_map, for example "1 100000 65536".
func (m IDMap) String() string { return fmt.Sprintf("%d %d %d", m.Inside, m.Outside, m.Size) }

// The messages of the handshake, as JSON on a socket between launcher and builder.
type (
	// hello is sent to the builder when its ID maps are written.
	hello struct {
		Mode       Mode
		UID, GID   int
		PID        bool
		KeepGroups bool
		Warnings   []string
	}
	// report is the answer of the builder: it is root, or a step failed.
	report struct {
		Stage string // the step that failed; empty: none
		Errno int
		Text  string
	}
	// welcome says that the launcher has the report and forwards signals from now on.
	welcome struct{}
)

// joinEnv is the environment variable with the descriptor number of the builder's end of the
// socket.
const joinEnv = "_RBUILD_USERNS_FD"

// Environment variables from which go.podman.io/storage learns the user outside (package unshare).
const (
	envConfigured = "_CONTAINERS_USERNS_CONFIGURED"
	envUID        = "_CONTAINERS_ROOTLESS_UID"
	envGID        = "_CONTAINERS_ROOTLESS_GID"
)
