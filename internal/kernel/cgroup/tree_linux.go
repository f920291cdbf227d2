package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/lease"
)

// Tree is the mounted hierarchies as only this process can change them. The nil Tree is what lies at /sys/fs/cgroup.
type Tree struct{ dir *os.File }

// Seal makes /sys/fs/cgroup read-only for all who look there in the mount namespace of this process, and in those that
// are made from it, and returns a Tree in which cgroups can be made still. To a process with all capabilities of a user
// namespace below, the kernel then never gives a writable one (mount_namespaces(7), "locked together"): without that
// it could mount it writable again and kill what the user runs, whose id it has (compare CVE-2023-25809). The mount
// namespace must be this process's own. Where /sys/fs/cgroup is no mount there is nothing to seal, and the nil Tree is returned.
func Seal() (_ *Tree, err error) {
	dir, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, nil //nolint:nilnil // documented
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("making %s read-only: %w", root, err), dir.Close())
		}
	}()

	// The library opens its own descriptor of the directory once, before its first file: that must be now.
	_, _ = cgroups.ReadFile(root, fileProcs)
	tree, err := unix.OpenTree(unix.AT_FDCWD, root, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return nil, os.NewSyscallError("open_tree", err)
	}
	defer unix.Close(tree)

	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, attr); err != nil {
		return nil, os.NewSyscallError("mount_setattr", err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, root, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return nil, os.NewSyscallError("move_mount", err)
	}

	return &Tree{dir}, nil
}

// Close closes the Tree; /sys/fs/cgroup stays sealed.
func (t *Tree) Close() error {
	if t == nil {
		return nil
	}
	return t.dir.Close()
}

// at is a path below /sys/fs/cgroup as an argument of the system calls.
func (t *Tree) at(path string) (dir int, name string) {
	if rel, ok := strings.CutPrefix(path, root+"/"); ok && t != nil {
		return int(t.dir.Fd()), rel
	}
	return unix.AT_FDCWD, path
}

func (t *Tree) mkdir(path string) error {
	dir, name := t.at(path)
	if err := unix.Mkdirat(dir, name, 0o755); err != nil {
		return &os.PathError{Op: "mkdir", Path: path, Err: err}
	}
	return nil
}

func (t *Tree) rmdir(path string) error {
	dir, name := t.at(path)
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

// form is what a cgroup's directory is as a lease.
func (t *Tree) form() lease.Form { return lease.Directory{Make: t.mkdir, Remove: t.remove} }

// claim makes the directory, unless it exists, and locks it. The caller releases the lease.
func (t *Tree) claim(dir string) (*lease.Lease, error) { return lease.Claim(t.form(), dir) }

// reap removes the cgroups below parent that dead processes have left. A cgroup that cannot be removed stays.
func (t *Tree) reap(parent string) { _ = lease.Reap(t.form(), parent, isFresh) }

// remove removes a cgroup and those below it. It is no error if it is gone.
func (t *Tree) remove(dir string) error {
	err := t.rmdir(dir)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}

	entries, readErr := os.ReadDir(dir)
	if readErr != nil {
		return &os.PathError{Op: "removing cgroup", Path: dir, Err: err}
	}

	for _, e := range entries {
		if e.IsDir() {
			if err := t.remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}

	if err := t.rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "removing cgroup", Path: dir, Err: err}
	}
	return nil
}
