package fdfs

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Type is the type of an inode.
type Type uint8

// The types of inodes. Unknown is the zero value.
const (
	Unknown Type = iota
	Regular
	Directory
	Symlink
	Fifo
	Socket
	CharDevice
	BlockDevice
)

// String returns the type in words, for example "symbolic link".
func (t Type) String() string {
	names := [...]string{
		"unknown",
		"regular file",
		"directory",
		"symbolic link",
		"fifo",
		"socket",
		"character device",
		"block device",
	}
	if int(t) < len(names) {
		return names[t]
	}
	return names[0]
}

// Time is a time stamp of a file: seconds since 1970, which may be negative, and nanoseconds.
type Time struct{ Sec, Nsec int64 }

// Stat describes an inode (fstatat(2)).
type Stat struct {
	Type         Type
	Mode         uint32 // permission bits with setuid, setgid and sticky: at most 07777
	UID, GID     uint32 // in this user namespace; 65534 if it does not map the ID
	Dev, Ino     uint64
	Nlink        uint64
	Rdev         uint64 // number of the device that a device node names
	Size         int64  // bytes
	Blocks       int64  // of 512 bytes: the space that the file takes, stat(2)
	Mtime, Ctime Time
}

// SameInode reports whether both describe the same inode.
func (s Stat) SameInode(o Stat) bool { return s.Dev == o.Dev && s.Ino == o.Ino }

// OpenDirAt opens the directory name of dir, or "." again, for reading. A symbolic link is ENOTDIR.
func OpenDirAt(dir *os.File, name string) (*os.File, error) {
	return openAt(dir, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

// OpenPathAt opens name of dir with O_PATH, which needs no permission on the inode. For a symbolic
// link it opens the link.
func OpenPathAt(dir *os.File, name string) (*os.File, error) {
	return openAt(dir, name, unix.O_PATH, 0)
}

// OpenFileAt opens the file name of dir for reading, and describes the file. It does not wait for
// the writer of a fifo or for a device. The caller looks at Stat.Type before reading. A symbolic
// link is ELOOP, a socket ENXIO.
func OpenFileAt(dir *os.File, name string) (*os.File, Stat, error) {
	if err := checkName("open", name); err != nil {
		return nil, Stat{}, err
	}

	fd, err := retry(func() (int, error) {
		return unix.Openat(int(dir.Fd()), name,
			unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, Stat{}, pathError("open", name, err)
	}

	st, err := statToRead(fd)
	if err != nil {
		unix.Close(fd)
		return nil, Stat{}, pathError("open", name, err)
	}

	return os.NewFile(uintptr(fd), name), newStat(&st), nil
}

// statToRead describes the open file fd, and takes O_NONBLOCK from a regular file: package os then
// does not offer the file to its poller, which takes no regular files.
func statToRead(fd int) (st unix.Stat_t, err error) {
	if err := retry0(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return st, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, 0)
	}
	return st, err
}

// CreateAt makes the file name in dir with mode 0600, and opens the file for reading and writing.
// If anything has that name, also a dangling symbolic link, the error is EEXIST.
func CreateAt(dir *os.File, name string) (*os.File, error) {
	return openAt(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
}

func openAt(dir *os.File, name string, flags int, perm uint32) (*os.File, error) {
	if err := checkName("open", name); err != nil {
		return nil, err
	}
	fd, err := retry(func() (int, error) {
		return unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
	})
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// FileStat describes the open file f, which may be open with O_PATH.
func FileStat(f *os.File) (Stat, error) {
	var st unix.Stat_t
	if err := retry0(func() error { return unix.Fstat(int(f.Fd()), &st) }); err != nil {
		return Stat{}, pathError("stat", f.Name(), err)
	}
	return newStat(&st), nil
}

// IsDevice reports whether the open file f, which may be open with O_PATH, is a device node.
func IsDevice(f *os.File) bool {
	st, _ := FileStat(f) // the zero value is no device
	return st.Type == CharDevice || st.Type == BlockDevice
}

// StatAt describes name of dir, or dir itself for ".". For a symbolic link it describes the link.
func StatAt(dir *os.File, name string) (Stat, error) {
	if err := checkName("stat", name); err != nil {
		return Stat{}, err
	}
	var st unix.Stat_t
	err := retry0(func() error { return unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return Stat{}, pathError("stat", name, err)
	}
	return newStat(&st), nil
}

func newStat(st *unix.Stat_t) Stat {
	return Stat{
		Type: typeOf(st.Mode), Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid,
		Dev: st.Dev, Ino: st.Ino, Nlink: uint64(st.Nlink), //nolint:unconvert // 32 bits on arm64
		Rdev: st.Rdev, Size: st.Size, Blocks: st.Blocks,
		Mtime: Time{st.Mtim.Sec, st.Mtim.Nsec}, Ctime: Time{st.Ctim.Sec, st.Ctim.Nsec},
	}
}

func typeOf(mode uint32) Type {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return Regular
	case unix.S_IFDIR:
		return Directory
	case unix.S_IFLNK:
		return Symlink
	case unix.S_IFIFO:
		return Fifo
	case unix.S_IFSOCK:
		return Socket
	case unix.S_IFCHR:
		return CharDevice
	case unix.S_IFBLK:
		return BlockDevice
	}

	return Unknown
}

// ReadlinkAt returns the target of the symbolic link name of dir.
func ReadlinkAt(dir *os.File, name string) (string, error) {
	if err := checkName("readlink", name); err != nil {
		return "", err
	}
	buf := make([]byte, unix.PathMax)
	n, err := retry(func() (int, error) { return unix.Readlinkat(int(dir.Fd()), name, buf) })
	if err != nil {
		return "", pathError("readlink", name, err)
	}
	return string(buf[:n]), nil
}

// MkdirAt makes the directory name in dir. The kernel removes the bits of the umask from mode: use
// ChmodAt for an exact mode.
func MkdirAt(dir *os.File, name string, mode uint32) error {
	if err := checkName("mkdir", name); err != nil {
		return err
	}
	return pathError("mkdir", name, retry0(func() error { return unix.Mkdirat(int(dir.Fd()), name, mode) }))
}

// SymlinkAt makes the symbolic link name to target in dir.
func SymlinkAt(target string, dir *os.File, name string) error {
	if err := checkName("symlink", name); err != nil {
		return err
	}
	return pathError("symlink", name, retry0(func() error { return unix.Symlinkat(target, int(dir.Fd()), name) }))
}

// LinkAt makes newName in newDir a hard link to oldName of oldDir. If oldName is a symbolic link,
// the new name is another name of the link.
func LinkAt(oldDir *os.File, oldName string, newDir *os.File, newName string) error {
	if err := errors.Join(checkName("link", oldName), checkName("link", newName)); err != nil {
		return err
	}
	return pathError("link", newName, retry0(func() error {
		return unix.Linkat(int(oldDir.Fd()), oldName, int(newDir.Fd()), newName, 0)
	}))
}

// MknodAt makes the fifo or device name in dir. The kernel removes the bits of the umask from mode:
// use ChmodAt for an exact mode. In a user namespace a device is EPERM. Any other type is EINVAL.
func MknodAt(dir *os.File, name string, t Type, mode uint32, rdev uint64) error {
	if err := checkName("mknod", name); err != nil {
		return err
	}
	format := map[Type]uint32{Fifo: unix.S_IFIFO, CharDevice: unix.S_IFCHR, BlockDevice: unix.S_IFBLK}[t]
	if format == 0 {
		return pathError("mknod", name, unix.EINVAL)
	}
	return pathError("mknod", name, retry0(func() error {
		return unix.Mknodat(int(dir.Fd()), name, format|mode, int(rdev))
	}))
}

// UnlinkAt removes name of dir, which must not be a directory.
func UnlinkAt(dir *os.File, name string) error {
	return unlinkAt(dir, name, 0)
}

// RmdirAt removes the empty directory name of dir.
func RmdirAt(dir *os.File, name string) error {
	return unlinkAt(dir, name, unix.AT_REMOVEDIR)
}

func unlinkAt(dir *os.File, name string, flags int) error {
	if err := checkName("unlink", name); err != nil {
		return err
	}
	return pathError("unlink", name, retry0(func() error { return unix.Unlinkat(int(dir.Fd()), name, flags) }))
}

// ChownAt changes the owner of name of dir, or of dir itself for ".". For a symbolic link it
// changes the link. An owner that the user namespace does not map is EINVAL, and the error says so.
func ChownAt(dir *os.File, name string, uid, gid uint32) error {
	if err := checkName("chown", name); err != nil {
		return err
	}
	return chownError(name, uid, gid, retry0(func() error {
		return unix.Fchownat(int(dir.Fd()), name, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW)
	}))
}

// Chown changes the owner of the open file f. Errors are those of ChownAt.
func Chown(f *os.File, uid, gid uint32) error {
	return chownError(f.Name(), uid, gid, retry0(func() error { return unix.Fchown(int(f.Fd()), int(uid), int(gid)) }))
}

func chownError(name string, uid, gid uint32, err error) error {
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("owner %d:%d is outside the ids that the user namespace maps: %w", uid, gid,
			pathError("chown", name, err))
	}
	return pathError("chown", name, err)
}

// ChmodAt changes the mode of name of dir, or of dir itself for ".". name must not be a symbolic
// link: before Linux 6.6 (fchmodat2) the kernel would follow the link. So call ChmodAt only for
// names that the caller has just made.
func ChmodAt(dir *os.File, name string, mode uint32) error {
	if err := checkName("chmod", name); err != nil {
		return err
	}
	fd := int(dir.Fd())
	err := retry0(func() error { return unix.Fchmodat(fd, name, mode, unix.AT_SYMLINK_NOFOLLOW) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		err = retry0(func() error { return unix.Fchmodat(fd, name, mode, 0) })
	}
	return pathError("chmod", name, err)
}

// Chmod changes the mode of the open file f: permissions, setuid, setgid and sticky.
func Chmod(f *os.File, mode uint32) error {
	return pathError("chmod", f.Name(), retry0(func() error { return unix.Fchmod(int(f.Fd()), mode) }))
}

// SetMtimeAt changes the modification time of name of dir, or of dir itself for ".". For a symbolic
// link it changes the link. The access time stays.
func SetMtimeAt(dir *os.File, name string, t Time) error {
	if err := checkName("utimensat", name); err != nil {
		return err
	}
	ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: t.Sec, Nsec: t.Nsec}}
	return pathError("utimensat", name, retry0(func() error {
		return unix.UtimesNanoAt(int(dir.Fd()), name, ts, unix.AT_SYMLINK_NOFOLLOW)
	}))
}

// Getxattr returns the extended attribute key of the open file f, at most 64 KiB. It returns nil if
// f has no such attribute, or if the file system has no attributes.
func Getxattr(f *os.File, key string) ([]byte, error) {
	buf := make([]byte, 256)
	for {
		n, err := retry(func() (int, error) { return unix.Fgetxattr(int(f.Fd()), key, buf) })
		switch {
		case errors.Is(err, unix.ENODATA), errors.Is(err, unix.EOPNOTSUPP):
			return nil, nil
		case errors.Is(err, unix.ERANGE) && len(buf) < 1<<16:
			buf = make([]byte, 1<<16)
		case err != nil:
			return nil, pathError("getxattr "+key, f.Name(), err)
		default:
			return buf[:n], nil
		}
	}
}

// Setxattr sets the extended attribute key of the open file f.
func Setxattr(f *os.File, key string, value []byte) error {
	return pathError("setxattr "+key, f.Name(), retry0(func() error {
		return unix.Fsetxattr(int(f.Fd()), key, value, 0)
	}))
}

// NextData returns the next range [start, end) of f at or after off that holds data, not a hole. ok
// is false if there is no further data up to size. On a file system without SEEK_DATA the rest of
// the file counts as data.
func NextData(f *os.File, off, size int64) (start, end int64, ok bool, err error) {
	return NextDataOf(int(f.Fd()), f.Name(), off, size)
}

// NextDataOf is NextData for a descriptor. name is the name of the file in errors.
func NextDataOf(fd int, name string, off, size int64) (start, end int64, ok bool, err error) {
	if off >= size {
		return 0, 0, false, nil
	}

	start, err = unix.Seek(fd, off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return 0, 0, false, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return off, size, true, nil
	case err != nil:
		return 0, 0, false, pathError("seek", name, err)
	}

	end, err = unix.Seek(fd, start, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, false, pathError("seek", name, err)
	}
	return start, end, true, nil
}

// DataOf returns the number of bytes that hold data, not holes, in the first size bytes of a file.
func DataOf(fd int, name string, size int64) (data int64, err error) {
	for off := int64(0); ; {
		start, end, ok, err := NextDataOf(fd, name, off, size)
		if err != nil || !ok {
			return data, err
		}
		off = min(end, size)
		data += max(off-start, 0)
		if end <= start {
			return data, nil // the file shrinks meanwhile
		}
	}
}

// CopyRange makes the kernel copy up to n bytes at off of src to the same offset of dst
// (copy_file_range(2)). It returns the number of copied bytes, which may be less than n and is 0 at
// the end of src. ok is false, and nothing was copied, if the kernel cannot copy between these two
// files.
func CopyRange(dst, src *os.File, off int64, n int) (copied int, ok bool, err error) {
	in, out := off, off
	copied, err = retry(func() (int, error) {
		return unix.CopyFileRange(int(src.Fd()), &in, int(dst.Fd()), &out, n, 0)
	})
	// EXDEV: other file system type (man copy_file_range); EINVAL, EOPNOTSUPP, ENOSYS, EPERM
	// (seccomp): not here.
	for _, e := range []error{unix.EXDEV, unix.EINVAL, unix.EOPNOTSUPP, unix.ENOSYS, unix.EPERM} {
		if errors.Is(err, e) {
			return 0, false, nil
		}
	}
	if err != nil {
		return 0, false, pathError("copy_file_range", dst.Name(), err)
	}

	return copied, true, nil
}

// checkName refuses a name that is not one component of a path, so that no call can leave its
// directory.
func checkName(op, name string) error {
	if name == "" || name == ".." || strings.ContainsAny(name, "/\x00") {
		return pathError(op, name, unix.EINVAL)
	}
	return nil
}

func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: name, Err: err}
}

func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

func retry0(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// OpenRegular opens the regular file at path for reading, and returns its size in bytes. It follows
// symbolic links. A pipe, for whose writer it does not wait, and a device are errors.
func OpenRegular(path string) (f *os.File, size int64, err error) {
	if f, err = os.OpenFile(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0); err != nil {
		return nil, 0, err
	}

	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	if !info.Mode().IsRegular() {
		_ = f.Close() // nothing was written
		return nil, 0, fmt.Errorf("%s is not a regular file", path)
	}
	return f, info.Size(), nil
}
