package copier

import (
	"fmt"
	"sync"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// MakeDirs makes the directory name below root, for example "/srv/app", and the missing directories
// that lead to it: owned by o, mode 0755. Symbolic links resolve inside root, also a link to a path
// that does not exist yet. Existing directories keep their attributes; an entry that is not a
// directory is an error. A component ".." leads up from the directory that was made for the
// components before it, as with mkdir -p. created reports whether a directory was made.
func MakeDirs(root fdfs.Dir, name string, o fdfs.Owner) (created bool, err error) {
	return MakeDirsOf(root, name, func() (fdfs.Owner, error) { return o, nil })
}

// MakeDirsOf is MakeDirs for an owner that find looks up. find is called once, and only if a
// directory must be made.
func MakeDirsOf(root fdfs.Dir, name string, find func() (fdfs.Owner, error)) (created bool, err error) {
	c := fdfs.NewCursor(root)
	defer c.Close()

	owner := sync.OnceValues(find)
	err = c.Enter("/"+name, func(dir fdfs.Dir, base string) error {
		o, err := owner()
		if err != nil {
			return err
		}
		created = true
		return makeDir(dir, base, directory(o, 0o755))
	})
	if err != nil {
		return created, fmt.Errorf("making directory %s: %w", name, err)
	}

	return created, nil
}
