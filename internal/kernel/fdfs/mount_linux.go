package fdfs

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// AttachMount attaches a detached mount, given by the descriptor of its root, at the directory dir. Descriptors of what
// lies in it stay valid; from then on it counts as one of the calling process's mount namespace, so that parts of it
// can be cloned (open_tree(2): before Linux 6.15 not those of a detached mount).
func AttachMount(mount *os.File, dir string) error {
	err := unix.MoveMount(int(mount.Fd()), "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
	return pathError("attaching a mount at", dir, err)
}

// DetachMount takes the mount at dir away. What still uses it, a clone or an open file, keeps it.
func DetachMount(dir string) error {
	return pathError("unmounting", dir, unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW))
}

// MemoryFS makes an empty file system in memory, detached, and returns its root. It is a ramfs, whose pages never go to
// swap, or where that is not to be had a tmpfs. The root directory has mode 0700.
func MemoryFS() (*os.File, error) {
	root, err := newFS("ramfs", "mode", "0700")
	if err != nil {
		return newFS("tmpfs", "mode", "0700")
	}
	return root, nil
}

// BinfmtMisc mounts the file system binfmt_misc of the calling process's user namespace, detached, and returns its root.
// While it is mounted it is the one that counts in that namespace and those nested in it. A namespace other than the
// first has one since Linux 6.7.
func BinfmtMisc() (*os.File, error) { return newFS("binfmt_misc") }

// newFS makes a file system, with options as pairs of key and value.
func newFS(fsType string, options ...string) (*os.File, error) {
	fs, err := unix.Fsopen(fsType, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("mounting %s: %w", fsType, os.NewSyscallError("fsopen", err))
	}
	defer unix.Close(fs)

	for o := range slices.Chunk(options, 2) {
		if err := unix.FsconfigSetString(fs, o[0], o[1]); err != nil {
			return nil, fmt.Errorf("mounting %s: %w", fsType, os.NewSyscallError("fsconfig", err))
		}
	}

	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("mounting %s: %w", fsType, os.NewSyscallError("fsconfig", err))
	}

	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, fmt.Errorf("mounting %s: %w", fsType, os.NewSyscallError("fsmount", err))
	}
	return os.NewFile(uintptr(fd), fsType), nil
}

// MakeWhiteout makes name of dir a whiteout of overlayfs: in an upper directory it hides what lies below. A user
// namespace may do that since Linux 5.8.
func MakeWhiteout(dir *os.File, name string) error {
	if err := checkName("mknod", name); err != nil {
		return err
	}
	return pathError("mknod", name, retry0(func() error { return unix.Mknodat(int(dir.Fd()), name, unix.S_IFCHR, 0) }))
}
