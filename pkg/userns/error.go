package userns

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"

	"codeberg.org/rbuild/rbuild/internal/remedy"
)

// Reason is why no namespace could be made.
type Reason string

// The reasons of an [Error].
const (
	NoUser       Reason = "no-user"       // the uid has no login name, without which newuidmap works for nobody
	NoSubIDs     Reason = "no-subids"     // no entry in /etc/subuid or /etc/subgid, or none that is usable here
	TooFewIDs    Reason = "too-few-ids"   // id 65534 would not exist
	NoHelper     Reason = "no-helper"     // newuidmap or newgidmap is not installed
	HelperRights Reason = "helper-rights" // newuidmap or newgidmap has no privilege to map ids
	HelperFailed Reason = "helper-failed" // newuidmap or newgidmap refused
	NoNewPrivs   Reason = "no-new-privs"  // no_new_privs takes the privilege from newuidmap and newgidmap
	Limit        Reason = "limit"         // user.max_user_namespaces is reached, or namespaces are nested too deeply
	AppArmor     Reason = "apparmor"      // AppArmor forbids user namespaces or mounts
	Seccomp      Reason = "seccomp"       // a seccomp filter forbids user namespaces or mounts
	Forbidden    Reason = "forbidden"     // the kernel refused for another reason
	NoKernel     Reason = "no-kernel"     // the kernel was built without user namespaces
	Unjoined     Reason = "unjoined"      // the re-executed program ended before Join
	Capabilities Reason = "no-capability" // root without the capabilities to map ids
)

// AboutIDs tells whether ids could not be mapped; else it is the namespace that could not be made.
func (r Reason) AboutIDs() bool {
	switch r {
	case NoUser, NoSubIDs, TooFewIDs, NoHelper, HelperRights, HelperFailed, NoNewPrivs, Capabilities:
		return true
	case Limit, AppArmor, Seccomp, Forbidden, NoKernel, Unjoined:
	}
	return false
}

// Error says on one line what is missing and what mends it.
type Error struct {
	Reason Reason
	Detail string // what was tried and what is missing
	Fix    string // what to run or to change; empty if nobody knows
	Err    error  // the system's error, may be nil
}

// Error returns "detail; fix".
func (e *Error) Error() string { return remedy.Text(e.Remedy()) }

// Remedy returns Detail and Fix.
func (e *Error) Remedy() (why, do string) { return e.Detail, e.Fix }

// Unwrap returns the system's error.
func (e *Error) Unwrap() error { return e.Err }

// situation is what explains a refusal. It is gathered after one, never to foresee one.
type situation struct {
	UID, EUID     int
	NoNewPrivs    bool
	OwnIDs        bool   // the ids of the user namespace are not the machine's
	NoSetIDs      bool   // CAP_SETUID or CAP_SETGID is not in the bounding set: no program can have it
	Seccomp       bool   // a filter is active
	MaxNamespaces string // user.max_user_namespaces; empty: unknown
	Clone         string // kernel.unprivileged_userns_clone, Debian's and Arch's switch; empty: there is none
	AppArmor      string // kernel.apparmor_restrict_unprivileged_userns; empty: there is none
	Confined      string // AppArmor's label of this process if it is confined
}

// explainRefusal says why the kernel refused op, which is "creating a user namespace" or a mount of the builder.
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
		e.Fix = "run as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give the program an AppArmor profile with the rule userns"
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

// podFields are the fields of a pod under which it may make user namespaces, as far as they are not set already.
func podFields(s situation) string {
	const profiles = "seccompProfile.type: Unconfined and appArmorProfile.type: Unconfined"
	if s.EUID != 0 && !s.NoNewPrivs && !s.NoSetIDs {
		return profiles // newuidmap does the rest
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

func explainLimit(e *Error, s situation) {
	e.Reason = Limit
	if s.MaxNamespaces == "0" {
		e.Detail += " (user.max_user_namespaces is 0)"
		e.Fix = "run as root: sysctl -w user.max_user_namespaces=15000"
		return
	}
	e.Detail += fmt.Sprintf(" (all of user.max_user_namespaces=%s are in use, or 32 levels are nested)", s.MaxNamespaces)
	e.Fix = "end what holds them, or run as root: sysctl -w user.max_user_namespaces=100000"
}

// helperFailure is a run of newuidmap or newgidmap that failed.
type helperFailure struct {
	Path     string
	Output   string // standard error
	Err      error  // how it ended, or why it did not start
	SetUID   bool   // its file has the set-user-ID bit
	FileCaps bool   // its file has capabilities
	NoSUID   bool   // its file system is mounted nosuid
	User     string
	Ranges   string // the map that was asked for
}

// explainHelper says why newuidmap or newgidmap failed, from what it printed and from what it is.
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
		e.Fix += ", or hostUsers: false and runAsUser: 0; in a systemd unit set NoNewPrivileges=no; in a container drop --security-opt no-new-privileges"
	case s.NoSetIDs && s.EUID != 0:
		e.Reason = HelperRights
		e.Detail = fmt.Sprintf("%s cannot have the capabilities SETUID and SETGID, which this container may not use (%s)", tool, said)
		e.Fix = "in a pod set no capabilities.drop, or hostUsers: false and runAsUser: 0; in a container add --cap-add SETUID,SETGID"
	case f.NoSUID:
		e.Reason = HelperRights
		e.Detail = fmt.Sprintf("%s has no effect because its file system is mounted nosuid (%s)", f.Path, said)
		e.Fix = fmt.Sprintf("run as root: mount -o remount,suid %s, or install %s elsewhere", filepath.Dir(f.Path), tool)
	case !f.SetUID && !f.FileCaps:
		e.Reason = HelperRights
		e.Detail = fmt.Sprintf("%s is neither setuid root nor has it cap_%s (%s)", f.Path, capOf(tool), said)
		e.Fix = fmt.Sprintf("run as root: setcap cap_%s=ep %s", capOf(tool), f.Path)
	case strings.Contains(said, "not allowed"):
		e.Reason = NoSubIDs
		e.Detail = fmt.Sprintf("%s (asked for %s)", said, f.Ranges)
		e.Fix = fmt.Sprintf("give user %s these ids in /etc/sub%s, or ask getsubids which ones there are", f.User, strings.TrimSuffix(strings.TrimPrefix(tool, "new"), "map"))
	case strings.Contains(said, "owned by a different user"):
		e.Detail += " (the current group is not the user's primary group, or the uid has two names)"
		e.Fix = "run it outside newgrp and sg, or set GRANT_AUX_GROUP_SUBIDS yes in /etc/login.defs"
	case strings.Contains(said, "determine your user name"):
		e.Reason = NoUser
		e.Fix = fmt.Sprintf("give uid %d a line in /etc/passwd", s.UID)
	case strings.Contains(said, "write to") && f.SetUID && !f.FileCaps:
		e.Reason = HelperRights
		e.Detail += " (it is setuid without file capabilities, and needs CAP_SYS_ADMIN that this container lacks)"
		e.Fix = fmt.Sprintf("run as root in the image: chmod u-s %s && setcap cap_%s=ep %s", f.Path, capOf(tool), f.Path)
	}

	return e
}

// capOf is the capability that a tool needs: setuid for newuidmap, setgid for newgidmap.
func capOf(tool string) string {
	return "set" + strings.TrimSuffix(strings.TrimPrefix(tool, "new"), "map")
}

// noSubids is the error of a user without subordinate ids. all are the ranges of everybody, in both files.
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

// addSubids is the command that gives a user 65536 further ids of the kinds that are missing.
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
