package userns

import (
	"fmt"
	"slices"
	"strings"
)

// standing describes the launcher before Enter tries a mode.
type standing struct {
	UID, GID int // effective
	UIDMap   []IDMap
	GIDMap   []IDMap
	Initial  bool // in the initial user namespace
	SysAdmin bool // CAP_SYS_ADMIN is effective
	SetIDs   bool // CAP_SETUID and CAP_SETGID are effective
}

// plan is a mode with its ID maps. The maps are empty for modes that create no user namespace.
type plan struct {
	Mode     Mode
	UIDMap   []IDMap
	GIDMap   []IDMap
	Warnings []string
}

// newUserNS reports whether the plan creates a user namespace.
func (p plan) newUserNS() bool { return p.Mode != Root && p.Mode != Identity }

// delegation holds the subordinate IDs of a user and the programs that map them.
type delegation struct {
	User    string
	UIDs    subids
	GIDs    subids
	UIDTool string // path of newuidmap; empty: not found
	GIDTool string // path of newgidmap; empty: not found
}

// choose chooses the mode. It calls delegated for an ordinary user only.
func choose(s standing, delegated func() (delegation, error)) (plan, error) {
	switch {
	case s.UID == 0 && s.SysAdmin && s.Initial:
		return plan{Mode: Root}, nil
	case s.UID == 0 && s.SysAdmin && suitable(s.UIDMap, s.GIDMap):
		return plan{Mode: Identity}, nil
	case s.UID == 0 && s.SetIDs && (s.Initial || suitable(s.UIDMap, s.GIDMap)):
		return direct(s), nil
	case s.UID == 0:
		return plan{}, unsuitable(s)
	}

	d, err := delegated()
	if err != nil {
		return plan{}, err
	}

	return helper(s, d)
}

// unsuitable returns the error for root of a namespace that cannot be used.
func unsuitable(s standing) *Error {
	n := count(s.UIDMap)
	switch {
	case !s.Initial && n > 1 && !suitable(s.UIDMap, s.GIDMap):
		return &Error{
			Reason: TooFewIDs,
			Detail: fmt.Sprintf("the current namespace has %d ids without 65534 (nogroup), which images use", n),
			Fix:    "create the namespace with 65536 ids or more",
		}
	case !s.Initial && n == 1:
		return &Error{
			Reason: TooFewIDs,
			Detail: "already root of a user namespace with a single id",
			Fix:    "run the program outside, as an ordinary user",
		}
	}
	return &Error{
		Reason: Capabilities,
		Detail: "root without CAP_SYS_ADMIN, CAP_SETUID and CAP_SETGID cannot map ids",
		Fix: "in a container add the capabilities SETUID and SETGID, " +
			"or run the program as an ordinary user with subordinate ids",
	}
}

// suitable reports whether images can be built with these maps: 0 and 65534 exist.
func suitable(uids, gids []IDMap) bool {
	return contains(uids, 0) && contains(gids, 0) && contains(uids, nogroup) && contains(gids, nogroup)
}

// direct maps the IDs of the current namespace to themselves, for example in a pod with hostUsers:
// false. In the initial namespace direct maps high IDs instead: root of the new namespace would own
// the files of the machine.
func direct(s standing) plan {
	if s.Initial {
		m := []IDMap{{Inside: 0, Outside: subidMin, Size: subidCount}}
		return plan{Mode: Direct, UIDMap: m, GIDMap: m}
	}
	return plan{Mode: Direct, UIDMap: identity(s.UIDMap), GIDMap: identity(s.GIDMap)}
}

// helper maps an ordinary user and the user's subordinate IDs.
func helper(s standing, d delegation) (plan, error) {
	all := slices.Concat(d.UIDs.All, d.GIDs.All)
	noUID := len(d.UIDs.Mine) == 0
	noGID := len(d.GIDs.Mine) == 0
	if noUID || noGID {
		err := noSubids(d.User, noUID, noGID, all)
		err.Detail += badLines(d)
		return plan{}, err
	}

	if d.UIDTool == "" {
		return plan{}, notInstalled("newuidmap")
	}
	if d.GIDTool == "" {
		return plan{}, notInstalled("newgidmap")
	}

	p := plan{
		Mode:   Helper,
		UIDMap: userMap(s.UID, foreign(d.UIDs.Mine, s.UIDMap), s.UIDMap),
		GIDMap: userMap(s.GID, foreign(d.GIDs.Mine, s.GIDMap), s.GIDMap),
	}
	fewUID := !contains(p.UIDMap, nogroup)
	fewGID := !contains(p.GIDMap, nogroup)
	if fewUID || fewGID {
		return plan{}, &Error{
			Reason: TooFewIDs,
			Detail: fmt.Sprintf("user %s can map %d uids and %d gids here, and images use 65534 (nogroup)",
				d.User, count(p.UIDMap), count(p.GIDMap)),
			Fix: fewFix(s, d.User, fewUID, fewGID, all),
		}
	}

	return p, nil
}

func notInstalled(tool string) *Error {
	return &Error{
		Reason: NoHelper,
		Detail: tool + " is not installed",
		Fix:    "run as root: apt-get install uidmap (dnf install shadow-utils, apk add shadow-uidmap)",
	}
}

// foreign leaves out the IDs below 65536, which belong to users and services of the machine, if the
// user has enough other IDs. An image for pods delegates low IDs for namespaces that have no IDs
// above 65535. In a namespace with all IDs, a RUN would have the rights of a user of the node.
func foreign(mine []idRange, parent []IDMap) []idRange {
	high := within(disjoint(mine), []idRange{{subidCount, maxIDs}})
	if count(parent) != initMap || total(high) <= nogroup {
		return mine
	}
	return high
}

// fewFix returns the remedy for too few IDs. In a pod the remedy names ranges that exist in the
// pod.
func fewFix(s standing, user string, uid, gid bool, all []idRange) string {
	if count(s.UIDMap) == initMap {
		return addSubids(user, uid, gid, all)
	}
	var lines []string
	for _, r := range without([]idRange{{1, nogroup + 1}}, uint64(s.UID)) {
		lines = append(lines, fmt.Sprintf("%s:%d:%d", user, r.Start, r.Count))
	}
	return "write " + strings.Join(lines, " and ") + " into /etc/subuid and /etc/subgid"
}

// badLines names the first line that cannot be parsed, as a part of Error.Detail.
func badLines(d delegation) string {
	switch {
	case len(d.UIDs.Bad) > 0:
		return fmt.Sprintf(" (line %d of /etc/subuid cannot be read)", d.UIDs.Bad[0])
	case len(d.GIDs.Bad) > 0:
		return fmt.Sprintf(" (line %d of /etc/subgid cannot be read)", d.GIDs.Bad[0])
	}
	return ""
}

// single maps the user alone. why is the error that made the mode necessary.
func single(s standing, why error) plan {
	one := func(id int) []IDMap { return []IDMap{{Inside: 0, Outside: uint32(id), Size: 1}} }
	return plan{
		Mode: Single, UIDMap: one(s.UID), GIDMap: one(s.GID),
		Warnings: []string{fmt.Sprintf("only one user id and one group id can be mapped: %v", why)},
	}
}
