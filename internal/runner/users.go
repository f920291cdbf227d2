package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/passwd"
)

// Users looks up users in the /etc/passwd and /etc/group of an image and remembers the results. The
// zero value remembers nothing yet. Whoever changes the files calls Changed or Forget. Users is for
// one goroutine.
type Users struct {
	known map[string]passwd.User
	// stable: neither /etc nor one of the two files is a symbolic link, so that a change of them is
	// visible as an entry "etc" in the upper directory of the process that makes the change.
	stable bool
}

// Lookup returns the user that USER[:GROUP] names. view opens the files if the result is not known.
func (u *Users) Lookup(name string, view func() (*os.File, error)) (passwd.User, error) {
	if known, ok := u.known[name]; ok {
		return known, nil
	}

	root, err := view()
	if err != nil {
		return passwd.User{}, err
	}
	user, err := passwd.ResolveUser(fdfs.OnDisk(root), name)
	if err != nil {
		return passwd.User{}, err
	}

	if u.known == nil {
		u.known = map[string]passwd.User{}
		u.stable = plainUserFiles(root)
	}
	u.known[name] = user
	return user, nil
}

// Changed drops the results that a new topmost layer may have made wrong. top is the path of the directory of
// that layer.
func (u *Users) Changed(top string) {
	_, err := os.Lstat(top + "/etc")
	if !u.stable || !errors.Is(err, fs.ErrNotExist) {
		u.Forget()
	}
}

// Forget drops all results.
func (u *Users) Forget() { *u = Users{} }

// plainUserFiles reports whether no path of the user database is a symbolic link.
func plainUserFiles(view *os.File) bool {
	for _, path := range []string{"/etc", "/etc/passwd", "/etc/group"} {
		info, err := os.Lstat(descriptorPath(view) + path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false
		}
		if err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return false
		}
	}
	return true
}

// user returns the user of a command with all groups: those of the user, the primary group, without
// which the group of a file could not deny the file to the user (CVE-2022-36109), and those of the
// options.
func (o Options) user(c Command, root Root) (passwd.User, error) {
	users := root.Users
	if users == nil {
		users = &Users{}
	}
	user, err := users.Lookup(c.User, root.View)
	if err != nil {
		return passwd.User{}, err
	}
	user.Groups = append([]uint32{user.GID}, user.Groups...)
	if len(o.Security.Groups) == 0 {
		return user, nil
	}

	view, err := root.View()
	if err != nil {
		return passwd.User{}, err
	}
	for _, name := range o.Security.Groups {
		gid, err := passwd.ResolveGroup(fdfs.OnDisk(view), name)
		if err != nil {
			return passwd.User{}, fmt.Errorf("--group-add %s: %w", name, err)
		}
		if !slices.Contains(user.Groups, gid) {
			user.Groups = append(user.Groups, gid)
		}
	}

	return user, nil
}
