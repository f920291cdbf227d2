package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
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

// claimTime bounds how long claim tries again: a reap that has locked the directory may be kept from the processor.
const claimTime = 30 * time.Second

// claim makes the directory and locks it, against reap. If another process's reap locks the directory first, and removes it,
// claim makes it again.
func (t *Tree) claim(dir string) (f *os.File, err error) {
	for deadline := time.Now().Add(claimTime); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if err = t.mkdir(dir); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, err
		}
		if f, err = lockDir(dir); err == nil || !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EWOULDBLOCK) {
			return f, err
		}
	}
	return nil, err
}

// lockDir locks the directory that is at dir once it has the lock.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(&os.PathError{Op: "flock", Path: dir, Err: err}, f.Close())
	}

	locked, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if there, err := os.Stat(dir); err != nil || !os.SameFile(there, locked) {
		return nil, errors.Join(&os.PathError{Op: "locking", Path: dir, Err: os.ErrNotExist}, f.Close())
	}
	return f, nil
}

// reap removes what owners who have died left below parent. What it cannot remove stays.
func (t *Tree) reap(parent string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.IsDir() || !isFresh(e.Name()) {
			continue
		}
		f, err := os.Open(filepath.Join(parent, e.Name()))
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = t.remove(f.Name())
		}
		f.Close()
	}
}

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
