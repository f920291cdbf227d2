// Package userns makes this program root in a user namespace.
//
// A program that uses it runs as two processes of the same binary with the same arguments. The launcher is the one
// the user started; it calls [Enter], which starts the builder in new namespaces, maps ids for it, passes signals on
// and returns its exit code. The builder is the one that [Join] turns into root:
//
//	func main() {
//		state, err := userns.Join() // first of all: nothing may fork or open files before
//		if err != nil { ... }
//		if state == nil {
//			code, err := userns.Enter(ctx, userns.Options{PID: true})
//			...
//		}
//		// uid 0 here, in a mount namespace of its own
//	}
//
// Between the two:
//
//	launcher                                   builder
//	  choose a mode (see Mode)
//	  clone(NEWUSER|NEWNS|NEWPID), exec ------->  the Go runtime starts, Join waits on the socket
//	  newuidmap, newgidmap, both at once          :
//	  {mode, uid, gid} ------------------------>  setgroups, setresgid, setresuid, capset, parent death signal
//	                                              mounts become slaves; a fresh /proc, if it may be had
//	  <------------------------- {ok | stage, errno}
//	  welcome --------------------------------->  Join returns
//	  forward signals, wait
//
// The mode is found by trying it: nothing that fails is replaced by something lesser without a word. A single id is used
// instead of ranges only where Options.AllowSingle allows it, with a warning. A /proc that the kernel does not let us mount
// afresh (pods with a masked /proc) stays the one outside, which is seen in [State]; the PID namespace is never given up.
//
// Nothing of the builder survives the launcher: the builder gets SIGKILL when the launcher dies, and where it is the
// first process of a PID namespace the kernel kills what it started with it.
//
// What this package does not do: it does not reap processes that are reparented to a builder which is PID 1 (they go
// when it ends), mounts nothing but /proc, and knows nothing of images, overlays and stores.
//
// Sources: user_namespaces(7), pid_namespaces(7), mount_namespaces(7), capabilities(7), newuidmap(1), subuid(5).
package userns

import (
	"fmt"
	"os"
)

// Mode is how the builder became root.
type Mode string

const (
	// Root is real root with all capabilities: there is no user namespace.
	Root Mode = "root"
	// Identity is root of a user namespace that was there before (podman unshare, a pod with hostUsers: false and
	// CAP_SYS_ADMIN): it is kept as it is.
	Identity Mode = "identity"
	// Direct is root without CAP_SYS_ADMIN (a pod): a new user namespace whose map root writes itself.
	Direct Mode = "direct"
	// Helper is an ordinary user with subordinate ids, mapped by newuidmap and newgidmap.
	Helper Mode = "helper"
	// Single is a user namespace that holds one user and one group. No file can belong to anybody else.
	Single Mode = "single"
)

// Options of [Enter]. The zero value is right for a program that needs no PID namespace.
type Options struct {
	PID         bool       // make a PID namespace too, of which the builder is the first process, and mount its /proc
	AllowSingle bool       // fall back to Single where ids cannot be mapped; the builder is told by a warning
	KeepGroups  bool       // keep the user's supplementary groups (a context readable only through one of them)
	Env         []string   // "KEY=value" pairs that the builder gets besides the environment of this process
	Files       []*os.File // open files that the builder inherits under the same numbers, for example a socket
	HelperDirs  []string   // where newuidmap, newgidmap, getsubids and getent are sought; nil: the system's directories
}

// State is what the builder knows of its namespaces.
type State struct {
	Mode         Mode
	UID, GID     int      // the user and group outside: those that Enter was called as
	UIDMap       []IDMap  // as read from /proc/self/uid_map inside; outside ids are the parent namespace's
	GIDMap       []IDMap  // as read from /proc/self/gid_map inside
	PIDNamespace bool     // the builder is PID 1 of a PID namespace of its own
	OuterProc    bool     // with PIDNamespace: /proc is that of an outer PID namespace, and os.Getpid is no name in it
	Warnings     []string // one line each, for the user to read
}

// Rootless tells whether the builder is root only in a user namespace, so that mounts, device nodes and xattrs of the
// trusted class are not those of real root.
func (s *State) Rootless() bool { return s.Mode != Root }

// IDMap is one extent of a user or group id map: Size ids from Inside on are those from Outside on in the parent
// namespace.
type IDMap struct {
	Inside  uint32 `json:"inside"`
	Outside uint32 `json:"outside"`
	Size    uint32 `json:"size"`
}

// String returns the extent as the kernel writes it in /proc/self/uid_map.
func (m IDMap) String() string { return fmt.Sprintf("%d %d %d", m.Inside, m.Outside, m.Size) }

// The messages of the handshake, in JSON on a socket that both ends inherit from nobody else.
type (
	// hello goes to the builder when its map is written.
	hello struct {
		Mode       Mode
		UID, GID   int
		PID        bool
		KeepGroups bool
		Warnings   []string
	}
	// report comes back when the builder is root, or tells what refused.
	report struct {
		Stage string // empty: all is well
		Errno int
		Text  string
	}
	// welcome tells the builder that the launcher has heard it, and from now on passes signals on.
	welcome struct{}
)

// joinEnv names the environment variable that carries the number of the builder's end of the socket.
const joinEnv = "_RBUILD_USERNS_FD"

// Variables that go.podman.io/storage reads to learn that it runs rootless, and for whom (its package unshare).
const (
	envConfigured = "_CONTAINERS_USERNS_CONFIGURED"
	envUID        = "_CONTAINERS_ROOTLESS_UID"
	envGID        = "_CONTAINERS_ROOTLESS_GID"
)
