package copier

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/user"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// maxUserFile bounds /etc/passwd and /etc/group of an image, in bytes.
const maxUserFile = 16 << 20

// User is who a process runs as, by numbers.
type User struct {
	UID, GID uint32
	Groups   []uint32 // supplementary groups, sorted, without GID
	Home     string   // "/" if the image knows none
}

// ResolveOwner understands the value of --chown: user, uid, user:group, with names that the /etc/passwd and /etc/group
// below root know. Without a group it is that of the user's passwd entry, or the number of the uid. An unknown name
// is an error that says it. Empty is root. The directories that WORKDIR makes belong to the USER by these rules, too.
func ResolveOwner(root fdfs.Dir, spec string) (Owner, error) {
	if spec == "" {
		return Owner{}, nil
	}

	name, group, hasGroup := strings.Cut(spec, ":")
	var o Owner
	if uid, ok, err := parseID(name); err != nil {
		return Owner{}, fmt.Errorf("owner %q: %w", spec, err)
	} else if ok {
		o = Owner{uid, uid}
	} else {
		u, err := findUser(root, func(u user.User) bool { return u.Name == name })
		if err == nil && u == nil {
			err = fmt.Errorf("user %q is not in the image's /etc/passwd", name)
		}
		if err != nil {
			return Owner{}, fmt.Errorf("owner %q: %w", spec, err)
		}
		if o, err = ownerOf(u); err != nil {
			return Owner{}, fmt.Errorf("owner %q: %w", spec, err)
		}
	}

	if !hasGroup {
		return o, nil
	}

	var err error
	if o.GID, err = ResolveGroup(root, group); err != nil {
		return Owner{}, fmt.Errorf("owner %q: %w", spec, err)
	}

	return o, nil
}

// ResolveUser understands the value of USER: user, uid, user:group, with names that the /etc/passwd and /etc/group
// below root know; empty is 0. Without a group it is that of the user's passwd entry, or 0 if there is none, and the
// supplementary groups are those of /etc/group. An unknown name is an error that says it; an unknown number is not.
func ResolveUser(root fdfs.Dir, spec string) (User, error) {
	name, group, hasGroup := strings.Cut(spec, ":")
	if name == "" {
		name = "0"
	}
	uid, numeric, err := parseID(name)
	if err != nil {
		return User{}, fmt.Errorf("user %q: %w", spec, err)
	}

	entry, err := findUser(root, func(u user.User) bool {
		return u.Name == name || numeric && u.Uid == int(uid)
	})
	if err == nil && entry == nil && !numeric {
		err = fmt.Errorf("%q is not in the image's /etc/passwd", name)
	}
	if err != nil {
		return User{}, fmt.Errorf("user %q: %w", spec, err)
	}

	u := User{UID: uid, Home: "/"}
	if entry != nil {
		o, err := ownerOf(entry)
		if err != nil {
			return User{}, fmt.Errorf("user %q: %w", spec, err)
		}
		u.UID, u.GID = o.UID, o.GID
		if entry.Home != "" {
			u.Home = entry.Home
		}
	}

	if hasGroup && group != "" {
		u.GID, err = ResolveGroup(root, group)
	} else if entry != nil {
		u.Groups, err = groupsOf(root, entry.Name, u.GID)
	}
	if err != nil {
		return User{}, fmt.Errorf("user %q: %w", spec, err)
	}

	return u, nil
}

// parseID reads a number that is a uid or gid; 1<<32-1 is none (chown(2)).
func parseID(s string) (id uint32, ok bool, err error) {
	if s == "" {
		return 0, false, errors.New("no name")
	}
	if strings.Trim(s, "0123456789") != "" {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == math.MaxUint32 {
		return 0, false, fmt.Errorf("%s is larger than any id", s)
	}
	return uint32(n), true, nil
}

func ownerOf(u *user.User) (Owner, error) {
	for _, id := range []int{u.Uid, u.Gid} {
		if id < 0 || id >= math.MaxUint32 {
			return Owner{}, fmt.Errorf("the image's /etc/passwd gives %s the id %d", u.Name, id)
		}
	}
	return Owner{uint32(u.Uid), uint32(u.Gid)}, nil
}

// findUser returns the first entry of /etc/passwd that want accepts, nil if there is none or no such file.
func findUser(root fdfs.Dir, want func(user.User) bool) (*user.User, error) {
	text, err := readEtc(root, "passwd")
	if err != nil {
		return nil, err
	}
	users, err := user.ParsePasswdFilter(bytes.NewReader(text), want)
	if err != nil || len(users) == 0 {
		return nil, err
	}
	return &users[0], nil
}

// ResolveGroup understands a group: a number, or a name that the /etc/group below root knows. An unknown name is an error
// that says it.
func ResolveGroup(root fdfs.Dir, name string) (uint32, error) {
	gid, ok, err := parseID(name)
	if ok || err != nil {
		return gid, err
	}

	text, err := readEtc(root, "group")
	if err != nil {
		return 0, err
	}

	groups, err := user.ParseGroupFilter(bytes.NewReader(text), func(g user.Group) bool { return g.Name == name })
	if err != nil {
		return 0, err
	}
	if len(groups) == 0 {
		return 0, fmt.Errorf("group %q is not in the image's /etc/group", name)
	}
	return groupID(groups[0])
}

func groupID(g user.Group) (uint32, error) {
	if g.Gid < 0 || g.Gid >= math.MaxUint32 {
		return 0, fmt.Errorf("the image's /etc/group gives %s the id %d", g.Name, g.Gid)
	}
	return uint32(g.Gid), nil
}

// groupsOf returns the groups that /etc/group lists name in, without primary.
func groupsOf(root fdfs.Dir, name string, primary uint32) ([]uint32, error) {
	text, err := readEtc(root, "group")
	if err != nil {
		return nil, err
	}

	groups, err := user.ParseGroupFilter(bytes.NewReader(text), func(g user.Group) bool {
		return slices.Contains(g.List, name)
	})
	if err != nil {
		return nil, err
	}

	var gids []uint32
	for _, g := range groups {
		gid, err := groupID(g)
		if err != nil {
			return nil, err
		}
		if gid != primary {
			gids = append(gids, gid)
		}
	}

	slices.Sort(gids)

	return slices.Compact(gids), nil
}

// readEtc reads a file of /etc; a missing one is empty.
func readEtc(root fdfs.Dir, name string) ([]byte, error) {
	text, err := readRegular(root, "/etc/"+name, maxUserFile)
	if errors.Is(err, fs.ErrNotExist) || fdfs.IsNotDir(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the image's /etc/%s: %w", name, err)
	}
	return text, nil
}
