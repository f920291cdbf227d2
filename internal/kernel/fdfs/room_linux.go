package fdfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Room is what this user may still take of a file system; quotas are not in it.
type Room struct {
	Bytes  uint64
	Inodes uint64 // 1<<62 where the file system does not count them
}

// RoomAt is what is left of the file system of path (statfs(2)).
func RoomAt(path string) (Room, error) {
	var fs unix.Statfs_t
	err := retry0(func() error { return unix.Statfs(path, &fs) })
	if err != nil {
		return Room{}, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	r := Room{Bytes: fs.Bavail * uint64(fs.Bsize), Inodes: fs.Ffree}
	if fs.Files == 0 {
		r.Inodes = 1 << 62
	}
	return r, nil
}

// NoRoom says whether an error is that the file system, or the user's part of it, is full.
func NoRoom(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// Allocate makes f take size bytes of the disk (fallocate(2)), by writing them where the file system cannot do it without.
func Allocate(f *os.File, size int64) error {
	err := retry0(func() error { return unix.Fallocate(int(f.Fd()), 0, 0, size) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		_, err = f.WriteAt(make([]byte, size), 0)
		return err
	}
	return os.NewSyscallError("fallocate", err)
}

// Linked says whether a file has a name yet.
func Linked(f *os.File) bool {
	var st unix.Stat_t
	return retry0(func() error { return unix.Fstat(int(f.Fd()), &st) }) == nil && st.Nlink > 0
}
