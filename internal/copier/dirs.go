package copier

import (
	"fmt"
	"sync"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// MakeDirs makes the directory name below root, an absolute path in the image, with all that leads to it and is missing:
// owned by o, mode 0755. Symbolic links resolve inside root, also one that points to nothing yet. What exists stays as
// it is; something that is not a directory is an error. A component ".." leads up from what was made for those before it,
// as with mkdir -p. created says whether anything was made.
func MakeDirs(root fdfs.Dir, name string, o Owner) (created bool, err error) {
	return MakeDirsOf(root, name, func() (Owner, error) { return o, nil })
}

// MakeDirsOf is MakeDirs for an owner that is looked up once, and only if something has to be made.
func MakeDirsOf(root fdfs.Dir, name string, find func() (Owner, error)) (created bool, err error) {
	c := fdfs.NewCursor(root)
	defer c.Close()

	owner := sync.OnceValues(find)
	err = c.Enter("/"+name, func(dir fdfs.Dir, base string) error {
		o, err := owner()
		if err != nil {
			return err
		}
		created = true
		return makeDir(dir, base, o, 0o755)
	})
	if err != nil {
		return created, fmt.Errorf("making directory %s: %w", name, err)
	}
	return created, nil
}
