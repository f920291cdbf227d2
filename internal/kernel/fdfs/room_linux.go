package fdfs

import (
	"errors"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// Room is the part of a file system that this user may still take. Quotas of the user are not
// considered.
type Room struct {
	Bytes  uint64
	Inodes uint64 // math.MaxUint64 if the file system does not count inodes, such as btrfs
}

// RoomAt returns the room of the file system of path (statfs(2)).
func RoomAt(path string) (Room, error) {
	s, err := FileSystemAt(path)
	if err != nil {
		return Room{}, err
	}
	if s.Inodes.Total == 0 {
		s.Inodes.Free = math.MaxUint64
	}
	return Room{Bytes: s.Bytes.Free, Inodes: s.Inodes.Free}, nil
}

// FileSystem describes a mounted file system.
type FileSystem struct {
	Kind     string // for example "ext4", or "file system 0x12345678"
	Dev      uint64 // device number; equal for two directories of one file system
	ReadOnly bool   // this mount is read-only
	Bytes    Usage  // Total is 0 for a file system without a size
	Inodes   Usage  // Total is 0 if the file system does not count inodes
}

// Usage is how much of a file system is free for this user.
type Usage struct{ Free, Total uint64 }

// FileSystemAt describes the file system of path (statfs(2)).
func FileSystemAt(path string) (FileSystem, error) {
	var s unix.Statfs_t
	if err := retry0(func() error { return unix.Statfs(path, &s) }); err != nil {
		return FileSystem{}, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err := retry0(func() error { return unix.Stat(path, &st) }); err != nil {
		return FileSystem{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}

	unit := uint64(s.Frsize)
	if unit == 0 {
		unit = uint64(s.Bsize)
	}
	return FileSystem{
		Kind:     fsName(s.Type),
		Dev:      st.Dev,
		ReadOnly: s.Flags&unix.ST_RDONLY != 0,
		Bytes:    Usage{Free: s.Bavail * unit, Total: s.Blocks * unit},
		Inodes:   Usage{Free: s.Ffree, Total: s.Files},
	}, nil
}

// fsName returns the name of a file system for its number of statfs(2), whose width depends on the
// architecture.
func fsName[N int32 | int64 | uint32](kind N) string {
	names := map[uint32]string{
		unix.BTRFS_SUPER_MAGIC:     "btrfs",
		unix.CIFS_SUPER_MAGIC:      "cifs",
		unix.EXT4_SUPER_MAGIC:      "ext4",
		unix.F2FS_SUPER_MAGIC:      "f2fs",
		unix.FUSE_SUPER_MAGIC:      "fuse",
		unix.NFS_SUPER_MAGIC:       "NFS",
		unix.OVERLAYFS_SUPER_MAGIC: "overlay",
		unix.SMB2_SUPER_MAGIC:      "smb",
		unix.TMPFS_MAGIC:           "tmpfs",
		unix.V9FS_MAGIC:            "9p",
		unix.XFS_SUPER_MAGIC:       "xfs",
		0x2fc12fc1:                 "zfs",
		0xca451a4e:                 "bcachefs",
	}
	if name, ok := names[uint32(kind)]; ok {
		return name
	}
	return fmt.Sprintf("file system %#x", uint32(kind))
}

// Allocate makes f take size bytes of the disk (fallocate(2)). On a file system without that call
// it writes zeros.
func Allocate(f *os.File, size int64) error {
	err := retry0(func() error { return unix.Fallocate(int(f.Fd()), 0, 0, size) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		_, err = f.WriteAt(make([]byte, size), 0)
		return err
	}
	return os.NewSyscallError("fallocate", err)
}
