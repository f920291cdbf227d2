package fdfs

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// AttachMount attaches a detached mount, given by the descriptor of its root directory, at the
// directory dir. Descriptors of files in the mount stay valid. The mount then belongs to the mount
// namespace of this process, so parts of the mount can be cloned. Before Linux 6.15, parts of a
// detached mount cannot (open_tree(2)).
func AttachMount(mount *os.File, dir string) error {
	err := unix.MoveMount(int(mount.Fd()), "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
	return pathError("attaching a mount at", dir, err)
}

// DetachMount unmounts the mount at dir. The mount lives on as long as a clone or an open file uses
// it.
func DetachMount(dir string) error {
	return pathError("unmounting", dir, unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW))
}

// MemoryFS returns the root directory, with mode 0700, of a new detached file system in memory. The
// file system is a ramfs, whose pages are never swapped out. If the kernel refuses a ramfs, it is a
// tmpfs.
func MemoryFS() (*os.File, error) {
	root, err := newFS("ramfs", "mode", "0700")
	if err != nil {
		return newFS("tmpfs", "mode", "0700")
	}
	return root, nil
}

// BinfmtMisc mounts the file system binfmt_misc of this process's user namespace, detached, and
// returns its root directory. While the file system is mounted, its registrations apply to that
// namespace and to namespaces nested in it, and the registrations of outer namespaces do not. User
// namespaces have a binfmt_misc since Linux 6.7.
func BinfmtMisc() (*os.File, error) { return newFS("binfmt_misc") }

// newFS makes a detached file system. Options are pairs of key and value, for example "mode",
// "0700".
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

	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC,
		unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, fmt.Errorf("mounting %s: %w", fsType, os.NewSyscallError("fsmount", err))
	}
	return os.NewFile(uintptr(fd), fsType), nil
}

// MakeWhiteout makes the whiteout name in dir. In the upper directory of an overlay, a whiteout
// hides the file of that name in the lower directories. A user namespace may make whiteouts since
// Linux 5.8.
func MakeWhiteout(dir *os.File, name string) error {
	if err := checkName("mknod", name); err != nil {
		return err
	}
	return pathError("mknod", name, retry0(func() error { return unix.Mknodat(int(dir.Fd()), name, unix.S_IFCHR, 0) }))
}
