// Package passwd looks up users and groups in the /etc/passwd and /etc/group of an image.
//
//	user, err := passwd.ResolveUser(root, "app:staff")  // of USER, for a process
//	owner, err := passwd.ResolveOwner(root, "app")      // of --chown, for files
//
// Both files belong to the image, so nothing about them is trusted (CVE-2024-9676 of
// containers/storage). They are opened by descriptor below the root, symbolic links resolve inside
// the root, and only a regular file of at most 16 MiB is read. A file that does not exist is empty.
// The formats are those of passwd(5) and group(5).
package passwd

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

// maxFile bounds /etc/passwd and /etc/group, in bytes.
const maxFile = 16 << 20

// User is the identity of a process, by numbers.
type User struct {
	UID, GID uint32
	Groups   []uint32 // supplementary groups, sorted, without GID
	Home     string   // home directory; "/" if /etc/passwd has no entry or the entry names none
}

// ResolveOwner returns the owner that spec, the value of --chown, names: "app", "1000", "app:staff"
// or "1000:1000". Names are looked up below root. Without a group, the group is that of the user's
// entry, or the number of a numeric user. An empty spec is root. An unknown name is an error that
// contains the name. The owner of directories that WORKDIR makes follows the same rules.
func ResolveOwner(root fdfs.Dir, spec string) (fdfs.Owner, error) {
	if spec == "" {
		return fdfs.Owner{}, nil
	}

	o, err := resolveOwner(root, spec)
	if err != nil {
		return fdfs.Owner{}, fmt.Errorf("owner %q: %w", spec, err)
	}
	return o, nil
}

func resolveOwner(root fdfs.Dir, spec string) (fdfs.Owner, error) {
	name, group, hasGroup := strings.Cut(spec, ":")
	o, err := userOwner(root, name)
	if err != nil || !hasGroup {
		return o, err
	}
	o.GID, err = ResolveGroup(root, group)
	return o, err
}

// userOwner returns the owner of files of the user name.
func userOwner(root fdfs.Dir, name string) (fdfs.Owner, error) {
	uid, numeric, err := parseID(name)
	if err != nil {
		return fdfs.Owner{}, err
	}
	if numeric {
		return fdfs.Owner{UID: uid, GID: uid}, nil
	}

	entry, err := findUser(root, func(u user.User) bool { return u.Name == name })
	if err != nil {
		return fdfs.Owner{}, err
	}
	if entry == nil {
		return fdfs.Owner{}, fmt.Errorf("user %q is not in the image's /etc/passwd", name)
	}

	return entryOwner(entry)
}

// ResolveUser returns the user that spec, the value of USER, names: "app", "1000", "app:staff",
// ":staff"; "" is 0. Names are looked up below root. Without a group, the group is that of the
// user's entry, or 0 if /etc/passwd has no entry for the number, and the supplementary groups are
// those of /etc/group. An unknown name is an error that contains the name; a number that
// /etc/passwd does not contain is no error.
func ResolveUser(root fdfs.Dir, spec string) (User, error) {
	u, err := resolveUser(root, spec)
	if err != nil {
		return User{}, fmt.Errorf("user %q: %w", spec, err)
	}
	return u, nil
}

func resolveUser(root fdfs.Dir, spec string) (User, error) {
	name, group, _ := strings.Cut(spec, ":")
	if name == "" {
		name = "0"
	}
	uid, numeric, err := parseID(name)
	if err != nil {
		return User{}, err
	}
	entry, err := findUser(root, func(u user.User) bool {
		return u.Name == name || numeric && u.Uid == int(uid)
	})
	if err != nil {
		return User{}, err
	}
	if entry == nil && !numeric {
		return User{}, fmt.Errorf("%q is not in the image's /etc/passwd", name)
	}

	u := User{UID: uid, Home: "/"}
	if entry != nil {
		o, err := entryOwner(entry)
		if err != nil {
			return User{}, err
		}
		u.UID = o.UID
		u.GID = o.GID
		if entry.Home != "" {
			u.Home = entry.Home
		}
	}

	if group != "" {
		u.GID, err = ResolveGroup(root, group)
		return u, err
	}
	if entry != nil {
		u.Groups, err = groupsOf(root, entry.Name, u.GID)
	}

	return u, err
}

// ResolveGroup returns the number of a group: "100", or a name such as "staff" that is looked up
// below root. An unknown name is an error that contains the name.
func ResolveGroup(root fdfs.Dir, name string) (uint32, error) {
	gid, numeric, err := parseID(name)
	if numeric || err != nil {
		return gid, err
	}

	groups, err := findGroups(root, func(g user.Group) bool { return g.Name == name })
	if err != nil {
		return 0, err
	}
	if len(groups) == 0 {
		return 0, fmt.Errorf("group %q is not in the image's /etc/group", name)
	}

	return groupID(groups[0])
}

// parseID returns the number of a user or group, and whether s is a number. The number 1<<32-1 is
// no ID: it means "no change" to chown(2).
func parseID(s string) (id uint32, numeric bool, err error) {
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

// entryOwner returns the numbers of an entry of /etc/passwd.
func entryOwner(u *user.User) (fdfs.Owner, error) {
	for _, id := range []int{u.Uid, u.Gid} {
		if !validID(id) {
			return fdfs.Owner{}, fmt.Errorf("the image's /etc/passwd gives %s the id %d", u.Name, id)
		}
	}
	return fdfs.Owner{UID: uint32(u.Uid), GID: uint32(u.Gid)}, nil
}

func groupID(g user.Group) (uint32, error) {
	if !validID(g.Gid) {
		return 0, fmt.Errorf("the image's /etc/group gives %s the id %d", g.Name, g.Gid)
	}
	return uint32(g.Gid), nil
}

func validID(id int) bool { return id >= 0 && id < math.MaxUint32 }

// groupsOf returns the groups that /etc/group lists the user name in, without the group primary.
func groupsOf(root fdfs.Dir, name string, primary uint32) ([]uint32, error) {
	groups, err := findGroups(root, func(g user.Group) bool { return slices.Contains(g.List, name) })
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

// findUser returns the first entry of /etc/passwd that want accepts, or nil.
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

// findGroups returns the entries of /etc/group that want accepts.
func findGroups(root fdfs.Dir, want func(user.Group) bool) ([]user.Group, error) {
	text, err := readEtc(root, "group")
	if err != nil {
		return nil, err
	}
	return user.ParseGroupFilter(bytes.NewReader(text), want)
}

// readEtc returns the content of a file of /etc, which is empty if the file does not exist.
func readEtc(root fdfs.Dir, name string) ([]byte, error) {
	text, err := fdfs.ReadFile(root, "/etc/"+name, maxFile)
	if errors.Is(err, fs.ErrNotExist) || fdfs.IsNotDir(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the image's /etc/%s: %w", name, err)
	}
	return text, nil
}
