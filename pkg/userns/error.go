package userns

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"

	"codeberg.org/rbuild/rbuild/internal/remedy"
)

// Reason is the kind of an [Error].
type Reason string

// The reasons of an [Error].
const (
	NoUser       Reason = "no-user"       // the UID has no login name, which newuidmap needs
	NoSubIDs     Reason = "no-subids"     // the user has no usable entry in /etc/subuid or /etc/subgid
	TooFewIDs    Reason = "too-few-ids"   // the ID 65534, which images use, would not exist
	NoHelper     Reason = "no-helper"     // newuidmap or newgidmap is not installed
	HelperRights Reason = "helper-rights" // newuidmap or newgidmap has no privilege to map IDs
	HelperFailed Reason = "helper-failed" // newuidmap or newgidmap failed for another reason
	NoNewPrivs   Reason = "no-new-privs"  // no_new_privs disables the privilege of newuidmap and newgidmap
	Limit        Reason = "limit"         // user.max_user_namespaces is reached, or namespaces are nested too deeply
	AppArmor     Reason = "apparmor"      // AppArmor forbids user namespaces or mounts
	Seccomp      Reason = "seccomp"       // a seccomp filter forbids user namespaces or mounts
	Forbidden    Reason = "forbidden"     // the kernel refused for another reason
	NoKernel     Reason = "no-kernel"     // the kernel was built without user namespaces
	Unjoined     Reason = "unjoined"      // the re-executed program ended before Join
	Capabilities Reason = "no-capability" // root has no capabilities to map IDs
)

// AboutIDs reports whether IDs could not be mapped. If it is false, the namespace could not be
// created. Options.AllowSingle helps only if it is true.
func (r Reason) AboutIDs() bool {
	switch r {
	case NoUser, NoSubIDs, TooFewIDs, NoHelper, HelperRights, HelperFailed, NoNewPrivs, Capabilities:
		return true
	case Limit, AppArmor, Seccomp, Forbidden, NoKernel, Unjoined:
	}
	return false
}

// Error explains on one line why a namespace could not be created.
type Error struct {
	Reason Reason
	Detail string // the operation that failed and the cause
	Fix    string // the remedy, for example a command to run; empty: not known
	Err    error  // the error of the system; nil: none
}

// Error returns "DETAIL; FIX".
func (e *Error) Error() string { return remedy.Text(e.Remedy()) }

// Remedy returns Detail and Fix.
func (e *Error) Remedy() (why, do string) { return e.Detail, e.Fix }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// situation holds the facts that explain a refusal. They are read after a refusal, never to predict
// one.
type situation struct {
	UID, EUID     int
	NoNewPrivs    bool
	OwnIDs        bool   // the user namespace does not map all IDs of the machine
	NoSetIDs      bool   // CAP_SETUID or CAP_SETGID is not in the bounding set
	Seccomp       bool   // a seccomp filter is active
	MaxNamespaces string // user.max_user_namespaces; empty: unknown
	Clone         string // kernel.unprivileged_userns_clone of Debian and Arch; empty: unknown
	AppArmor      string // kernel.apparmor_restrict_unprivileged_userns; empty: unknown
	Confined      string // the AppArmor profile of this process; empty: not confined
}

// explainRefusal returns the reason and the remedy for the error err of the operation op.
func explainRefusal(op string, err error, s situation) *Error {
	e := &Error{Err: err, Detail: fmt.Sprintf("%s: %v", op, err)}
	var errno syscall.Errno
	errors.As(err, &errno)
	switch {
	case errno == syscall.ENOSPC || errno == syscall.EUSERS:
		explainLimit(e, s)
	case errno == syscall.EINVAL || (errno == syscall.ENOSYS && !s.Seccomp):
		e.Reason = NoKernel
		e.Detail += " (the kernel has no user namespaces)"
		e.Fix = "use a kernel with CONFIG_USER_NS"
	case errno != syscall.EPERM && errno != syscall.EACCES && errno != syscall.ENOSYS:
		e.Reason = Forbidden
	case s.MaxNamespaces == "0":
		explainLimit(e, s)
	case s.Clone == "0" && s.EUID != 0:
		e.Reason = Forbidden
		e.Detail += " (kernel.unprivileged_userns_clone is 0)"
		e.Fix = "run as root: sysctl -w kernel.unprivileged_userns_clone=1"
	case s.AppArmor == "1":
		e.Reason = AppArmor
		e.Detail += " (kernel.apparmor_restrict_unprivileged_userns is 1)"
		e.Fix = "run as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, " +
			"or give the program an AppArmor profile with the rule userns"
	case s.Seccomp:
		e.Reason = Seccomp
		e.Detail += " (a seccomp filter is active)"
		e.Fix = "in a pod set " + podFields(s) + "; in a container use --security-opt seccomp=unconfined"
	case s.Confined != "":
		e.Reason = AppArmor
		e.Detail += fmt.Sprintf(" (confined by the AppArmor profile %s)", s.Confined)
		e.Fix = "in a pod set appArmorProfile.type: Unconfined; in a container use --security-opt apparmor=unconfined"
	default:
		e.Reason = Forbidden
		e.Detail += " (no cause visible: a security module, or a chroot, in which the kernel makes none)"
	}

	return e
}

// podFields lists the fields of a pod that must change so that the pod can create user namespaces.
func podFields(s situation) string {
	const profiles = "seccompProfile.type: Unconfined and appArmorProfile.type: Unconfined"
	if s.EUID != 0 && !s.NoNewPrivs && !s.NoSetIDs {
		return profiles // newuidmap can map IDs
	}

	fields := ""
	if !s.OwnIDs {
		fields = "hostUsers: false, "
	}
	if s.EUID != 0 {
		fields += "runAsUser: 0 (not runAsNonRoot), "
	}
	if s.NoSetIDs {
		fields += "no capabilities.drop, "
	}
	return fields + profiles
}

// explainLimit explains that the limit of user namespaces is reached.
func explainLimit(e *Error, s situation) {
	e.Reason = Limit
	if s.MaxNamespaces == "0" {
		e.Detail += " (user.max_user_namespaces is 0)"
		e.Fix = "run as root: sysctl -w user.max_user_namespaces=15000"
		return
	}
	e.Detail += fmt.Sprintf(" (all of user.max_user_namespaces=%s are in use, or 32 levels are nested)",
		s.MaxNamespaces)
	e.Fix = "end the processes that use them, or run as root: sysctl -w user.max_user_namespaces=100000"
}

// helperFailure describes a failed run of newuidmap or newgidmap.
type helperFailure struct {
	Path     string // of the program
	Output   string // standard error of the program
	Err      error  // the error of exec.Cmd.Run
	SetUID   bool   // the program has the set-user-ID bit and belongs to root
	FileCaps bool   // the program has file capabilities
	NoSUID   bool   // the file system of the program is mounted nosuid
	User     string // login name
	Ranges   string // the requested ID map
}

// explainHelper returns the reason and the remedy for a failure of newuidmap or newgidmap.
func explainHelper(f helperFailure, s situation) *Error {
	tool := filepath.Base(f.Path)
	said := strings.Join(strings.Fields(f.Output), " ")
	if said == "" {
		said = fmt.Sprintf("%s: %v", tool, f.Err)
	}
	e := &Error{Reason: HelperFailed, Err: f.Err, Detail: "mapping ids: " + said}
	switch {
	case s.NoNewPrivs && s.EUID != 0:
		e.Reason = NoNewPrivs
		e.Detail = fmt.Sprintf("%s has no effect because no_new_privs is set for this process (%s)", tool, said)
		e.Fix = "in a pod set allowPrivilegeEscalation: true"
		if s.NoSetIDs {
			e.Fix += " and no capabilities.drop"
		}
		e.Fix += ", or hostUsers: false and runAsUser: 0; in a systemd unit set NoNewPrivileges=no; " +
			"in a container drop --security-opt no-new-privileges"
	case s.NoSetIDs && s.EUID != 0:
		e.Reason = HelperRights
		e.Detail = fmt.Sprintf("%s cannot have the capabilities SETUID and SETGID, which this container lacks (%s)",
			tool, said)
		e.Fix = "in a pod set no capabilities.drop, or hostUsers: false and runAsUser: 0; " +
			"in a container add --cap-add SETUID,SETGID"
	case f.NoSUID:
		e.Reason = HelperRights
		e.Detail = fmt.Sprintf("%s has no effect because its file system is mounted nosuid (%s)", f.Path, said)
		e.Fix = fmt.Sprintf("run as root: mount -o remount,suid %s, or install %s elsewhere", filepath.Dir(f.Path),
			tool)
	case !f.SetUID && !f.FileCaps:
		e.Reason = HelperRights
		e.Detail = fmt.Sprintf("%s is neither setuid root nor has it cap_%s (%s)", f.Path, capOf(tool), said)
		e.Fix = fmt.Sprintf("run as root: setcap cap_%s=ep %s", capOf(tool), f.Path)
	case strings.Contains(said, "not allowed"):
		e.Reason = NoSubIDs
		e.Detail = fmt.Sprintf("%s (asked for %s)", said, f.Ranges)
		e.Fix = fmt.Sprintf("give user %s these ids in /etc/sub%s, or list the user's ids with getsubids",
			f.User, kindOf(tool))
	case strings.Contains(said, "owned by a different user"):
		e.Detail += " (the current group is not the user's primary group, or the uid has two names)"
		e.Fix = "run it outside newgrp and sg, or set GRANT_AUX_GROUP_SUBIDS yes in /etc/login.defs"
	case strings.Contains(said, "determine your user name"):
		e.Reason = NoUser
		e.Fix = fmt.Sprintf("give uid %d a line in /etc/passwd", s.UID)
	case strings.Contains(said, "write to") && f.SetUID && !f.FileCaps:
		e.Reason = HelperRights
		e.Detail += " (it is setuid without file capabilities, and needs CAP_SYS_ADMIN that this container lacks)"
		e.Fix = fmt.Sprintf("run as root in the image: chmod u-s %s && setcap cap_%s=ep %s",
			f.Path, capOf(tool), f.Path)
	}

	return e
}

// kindOf returns the kind of IDs that a tool maps: "uid" for newuidmap, "gid" for newgidmap.
func kindOf(tool string) string {
	return strings.TrimSuffix(strings.TrimPrefix(tool, "new"), "map")
}

// capOf returns the capability that a tool needs: "setuid" for newuidmap, "setgid" for newgidmap.
func capOf(tool string) string { return "set" + kindOf(tool) }

// noSubids returns the error for a user without subordinate UIDs or GIDs. all holds the ranges of
// all users in both files.
func noSubids(user string, uid, gid bool, all []idRange) *Error {
	files := "/etc/subuid and /etc/subgid"
	switch {
	case !gid:
		files = "/etc/subuid"
	case !uid:
		files = "/etc/subgid"
	}

	return &Error{
		Reason: NoSubIDs,
		Detail: fmt.Sprintf("user %s has no subordinate ids in %s", user, files),
		Fix:    addSubids(user, uid, gid, all),
	}
}

// addSubids returns the command that gives a user 65536 more UIDs, GIDs or both.
func addSubids(user string, uid, gid bool, all []idRange) string {
	r, ok := freeRange(all)
	if !ok {
		return "free some ids in /etc/subuid and /etc/subgid, which are full"
	}

	cmd := "run as root: usermod"
	if uid {
		cmd += fmt.Sprintf(" --add-subuids %d-%d", r.Start, r.end()-1)
	}
	if gid {
		cmd += fmt.Sprintf(" --add-subgids %d-%d", r.Start, r.end()-1)
	}
	return cmd + " " + user
}
