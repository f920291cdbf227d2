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

// Tree is the writable view of the cgroup hierarchies that only this process has after Seal. The
// nil Tree is the view at /sys/fs/cgroup.
type Tree struct{ dir *os.File }

// Seal makes /sys/fs/cgroup read-only in the mount namespace of this process and in mount
// namespaces that are copied from it, and returns a Tree in which cgroups can still be made. Then
// the kernel never gives a writable view to a process of a nested user namespace, whatever
// capabilities it has there (mount_namespaces(7), "locked together"). Without Seal that process
// could mount the hierarchies writable and kill the user's processes, whose UID it has (compare
// CVE-2023-25809). The mount namespace must belong to this process alone. If /sys/fs/cgroup does
// not exist, Seal returns the nil Tree. The caller closes the Tree.
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

	// The library opens its own descriptor of the directory once, before its first file. That must
	// happen before the seal.
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

// at returns a path below /sys/fs/cgroup as arguments of the *at system calls.
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

// form returns the directory of a cgroup as package lease has it.
func (t *Tree) form() lease.Form { return lease.Directory{Make: t.mkdir, Remove: t.remove} }

// claim makes the directory, unless it exists, and locks it. The caller releases the lease.
func (t *Tree) claim(dir string) (*lease.Lease, error) { return lease.Claim(t.form(), dir) }

// reap removes the cgroups below parent that dead processes have left. A cgroup that cannot be
// removed stays.
func (t *Tree) reap(parent string) { _ = lease.Reap(t.form(), parent, isFresh) }

// remove removes a cgroup and all cgroups below. A missing cgroup is no error.
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
