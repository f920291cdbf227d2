package userns

import (
	"fmt"
	"strings"
)

// standing is what this process is before anything was tried.
type standing struct {
	UID, GID int // effective
	UIDMap   []IDMap
	GIDMap   []IDMap
	Initial  bool // in the initial user namespace
	SysAdmin bool // CAP_SYS_ADMIN is effective
	SetIDs   bool // CAP_SETUID and CAP_SETGID are effective
}

// plan is a mode with the maps to be written, which are empty where no user namespace is made.
type plan struct {
	Mode     Mode
	UIDMap   []IDMap
	GIDMap   []IDMap
	Warnings []string
}

// newUserNS tells whether the plan needs a new user namespace.
func (p plan) newUserNS() bool { return p.Mode != Root && p.Mode != Identity }

// delegation is what a user may map through newuidmap.
type delegation struct {
	User    string
	UIDs    subids
	GIDs    subids
	UIDTool string // paths of newuidmap and newgidmap
	GIDTool string
}

// choose picks the mode. delegated is called only for those who need it.
func choose(s standing, delegated func() (delegation, error)) (plan, error) {
	switch {
	case s.UID == 0 && s.SysAdmin && s.Initial:
		return plan{Mode: Root}, nil
	case s.UID == 0 && s.SysAdmin && suitable(s.UIDMap, s.GIDMap):
		return plan{Mode: Identity}, nil
	case s.UID == 0 && s.SetIDs && (s.Initial || suitable(s.UIDMap, s.GIDMap)):
		return direct(s), nil
	case s.UID == 0 && !s.Initial && count(s.UIDMap) > 1 && !suitable(s.UIDMap, s.GIDMap):
		return plan{}, &Error{
			Reason: TooFewIDs,
			Detail: fmt.Sprintf("the namespace that this runs in has %d ids without 65534 (nogroup), which images use", count(s.UIDMap)),
			Fix:    "make it with 65536 ids or more",
		}
	case s.UID == 0 && !s.Initial && count(s.UIDMap) == 1:
		return plan{}, &Error{
			Reason: TooFewIDs,
			Detail: "already root of a user namespace with a single id",
			Fix:    "run it outside, as an ordinary user",
		}
	case s.UID == 0:
		return plan{}, &Error{
			Reason: Capabilities,
			Detail: "root without CAP_SYS_ADMIN, CAP_SETUID and CAP_SETGID cannot map ids",
			Fix:    "in a container add the capabilities SETUID and SETGID, or run it as an ordinary user with subordinate ids",
		}
	}

	d, err := delegated()
	if err != nil {
		return plan{}, err
	}

	return helper(s, d)
}

// suitable tells whether images can be built with these maps as they are.
func suitable(uids, gids []IDMap) bool {
	return contains(uids, 0) && contains(gids, 0) && contains(uids, nogroup) && contains(gids, nogroup)
}

// direct maps what there is onto itself in a namespace of its own (a pod with hostUsers: false). On the machine's own
// ids it does not: root of the namespace would own the machine's files.
func direct(s standing) plan {
	if s.Initial {
		m := []IDMap{{Inside: 0, Outside: subidMin, Size: subidCount}}
		return plan{Mode: Direct, UIDMap: m, GIDMap: m}
	}
	return plan{Mode: Direct, UIDMap: identity(s.UIDMap), GIDMap: identity(s.GIDMap)}
}

// helper maps an ordinary user with its subordinate ids.
func helper(s standing, d delegation) (plan, error) {
	all := append(append([]idRange(nil), d.UIDs.All...), d.GIDs.All...)
	noUID, noGID := len(d.UIDs.Mine) == 0, len(d.GIDs.Mine) == 0
	if noUID || noGID {
		err := noSubids(d.User, noUID, noGID, all)
		if bad := badLines(d); bad != "" {
			err.Detail += bad
		}
		return plan{}, err
	}

	for _, tool := range []struct{ name, path string }{{"newuidmap", d.UIDTool}, {"newgidmap", d.GIDTool}} {
		if tool.path == "" {
			return plan{}, &Error{
				Reason: NoHelper,
				Detail: tool.name + " is not installed",
				Fix:    "run as root: apt-get install uidmap (dnf install shadow-utils, apk add shadow-uidmap)",
			}
		}
	}

	p := plan{Mode: Helper, UIDMap: userMap(s.UID, foreign(d.UIDs.Mine, s.UIDMap), s.UIDMap), GIDMap: userMap(s.GID, foreign(d.GIDs.Mine, s.GIDMap), s.GIDMap)}
	fewUID, fewGID := !contains(p.UIDMap, nogroup), !contains(p.GIDMap, nogroup)
	if fewUID || fewGID {
		return plan{}, &Error{
			Reason: TooFewIDs,
			Detail: fmt.Sprintf("user %s can map %d uids and %d gids here, and images use 65534 (nogroup)", d.User, count(p.UIDMap), count(p.GIDMap)),
			Fix:    fewFix(s, d.User, fewUID, fewGID, all),
		}
	}

	return p, nil
}

// foreign leaves out the ids of the machine's own users and services where there are others. An image for pods delegates them
// for namespaces whose ids end at 65535; in one that has all ids, RUN would be the node's user of that number.
func foreign(mine []idRange, parent []IDMap) []idRange {
	high := within(disjoint(mine), []idRange{{subidCount, maxIDs}})
	if count(parent) != initMap || total(high) <= nogroup {
		return mine
	}
	return high
}

// fewFix names ranges that exist where this runs: in a pod these are not those of a whole machine.
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

func badLines(d delegation) string {
	switch {
	case len(d.UIDs.Bad) > 0:
		return fmt.Sprintf(" (line %d of /etc/subuid cannot be read)", d.UIDs.Bad[0])
	case len(d.GIDs.Bad) > 0:
		return fmt.Sprintf(" (line %d of /etc/subgid cannot be read)", d.GIDs.Bad[0])
	}
	return ""
}

// single maps nothing but the user itself.
func single(s standing, why error) plan {
	one := func(id int) []IDMap { return []IDMap{{Inside: 0, Outside: uint32(id), Size: 1}} }
	return plan{
		Mode: Single, UIDMap: one(s.UID), GIDMap: one(s.GID),
		Warnings: []string{fmt.Sprintf("only one user id and one group id can be mapped: %v", why)},
	}
}
