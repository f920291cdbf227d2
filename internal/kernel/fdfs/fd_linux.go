package fdfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// FD is an open directory or file without an *os.File around its descriptor. A walk that opens tens
// of thousands of files saves three allocations and two fcntl(2) for each of them.
//
// All methods return bare errnos such as unix.ENOENT, because only the walk knows the path of the
// file: wrap them with [PathError]. Names are entries of a directory that the kernel listed; they
// are passed on unchecked. The zero value is the descriptor 0, so keep no FD that was not opened.
type FD int

// FDOf returns the descriptor of f. f stays the owner: it must stay open, and closes the FD.
func FDOf(f *os.File) FD { return FD(f.Fd()) }

// Open opens the directory or file name of the directory d for reading and returns its attributes.
// It follows no symbolic link (ELOOP) and never waits, not even for the writer of a fifo. Look at
// Stat.Type before you read. The caller closes the FD.
func (d FD) Open(name string) (FD, Stat, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	open := func(extra int) (int, error) {
		return retry(func() (int, error) { return unix.Openat(int(d), name, flags|extra, 0) })
	}

	// Reading must not give each inode a new access time. Only the owner may ask for that, open(2).
	fd, err := open(unix.O_NOATIME)
	if errors.Is(err, unix.EPERM) {
		fd, err = open(0)
	}
	if err != nil {
		return -1, Stat{}, err
	}

	st, err := FD(fd).Attributes()
	if err != nil {
		FD(fd).Close()
		return -1, Stat{}, err
	}
	return FD(fd), st, nil
}

// Close closes a descriptor that was only read. An error would say nothing about the data.
func (d FD) Close() { _ = unix.Close(int(d)) }

// Attributes returns the attributes of the open file itself.
func (d FD) Attributes() (Stat, error) {
	var st unix.Stat_t
	if err := retry0(func() error { return unix.Fstat(int(d), &st) }); err != nil {
		return Stat{}, err
	}
	return newStat(&st), nil
}

// Stat returns the attributes of name of the directory d; of a symbolic link its own. name may be
// ".".
func (d FD) Stat(name string) (Stat, error) {
	var st unix.Stat_t
	err := retry0(func() error { return unix.Fstatat(int(d), name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return Stat{}, err
	}
	return newStat(&st), nil
}

// Readlink returns the target of the symbolic link name of the directory d.
func (d FD) Readlink(name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := retry(func() (int, error) { return unix.Readlinkat(int(d), name, buf) })
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// SetMtime changes the modification time of name of the directory d, of a symbolic link its own.
// The access time stays. name may be ".".
func (d FD) SetMtime(name string, t Time) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: t.Sec, Nsec: t.Nsec}}
	return retry0(func() error { return unix.UtimesNanoAt(int(d), name, times, unix.AT_SYMLINK_NOFOLLOW) })
}

// Read reads as read(2): 0 bytes are the end of the file.
func (d FD) Read(p []byte) (int, error) {
	return retry(func() (int, error) { return unix.Read(int(d), p) })
}

// Pread reads at off as pread(2): 0 bytes are the end of the file.
func (d FD) Pread(p []byte, off int64) (int, error) {
	return retry(func() (int, error) { return unix.Pread(int(d), p, off) })
}

// Xattrs lists the names of the extended attributes of the open file. A file system that has no
// extended attributes gives an empty list.
func (d FD) Xattrs() ([]string, error) {
	list, err := sized(func(buf []byte) (int, error) { return unix.Flistxattr(int(d), buf) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil || list == "" {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(list, "\x00"), "\x00"), nil
}

// Getxattr returns the value of the extended attribute name, however long.
func (d FD) Getxattr(name string) (string, error) {
	return sized(func(buf []byte) (int, error) { return unix.Fgetxattr(int(d), name, buf) })
}

// sized calls f, which like getxattr(2) returns the size of its answer if the buffer is empty, and
// returns the answer of f.
func sized(f func(buf []byte) (int, error)) (string, error) {
	n, err := retry(func() (int, error) { return f(nil) })
	if err != nil || n == 0 {
		return "", err
	}

	buf := make([]byte, n)
	n, err = retry(func() (int, error) { return f(buf) })
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// Dirent is an entry of a directory.
type Dirent struct {
	Name string
	Type Type // Unknown if the file system does not store types in directories, getdents(2)
}

// Dirents lists the directory d, without "." and "..", sorted by the bytes of the names. buf is
// scratch space, for example 32 KiB, that several calls can share.
func (d FD) Dirents(buf []byte) ([]Dirent, error) {
	// The offset belongs to the open file, which may have been listed before.
	if _, err := unix.Seek(int(d), 0, unix.SEEK_SET); err != nil {
		return nil, err
	}

	var entries []Dirent
	for {
		n, err := retry(func() (int, error) { return unix.Getdents(int(d), buf) })
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		entries = appendDirents(entries, buf[:n])
	}

	slices.SortFunc(entries, func(a, b Dirent) int { return strings.Compare(a.Name, b.Name) })

	return entries, nil
}

// appendDirents decodes struct linux_dirent64, getdents(2): inode and offset of 8 bytes each, the
// length of the record in 2 (host order), the type in 1, the name and a NUL.
func appendDirents(entries []Dirent, buf []byte) []Dirent {
	const (
		lengthAt = 16
		kindAt   = 18
		nameAt   = 19
	)

	for len(buf) > nameAt {
		length := binary.NativeEndian.Uint16(buf[lengthAt:])
		name, _, _ := bytes.Cut(buf[nameAt:length], []byte{0})
		if s := string(name); s != "." && s != ".." {
			// DT_* are S_IF* shifted, include/linux/fs_types.h.
			entries = append(entries, Dirent{Name: s, Type: typeOf(uint32(buf[kindAt]) << 12)})
		}
		buf = buf[length:]
	}
	return entries
}
