package layer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// retry calls f until it is not interrupted by a signal.
func retry(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// closeFD closes what was only read: an error would tell nothing.
func closeFD(fd int) {
	_ = unix.Close(fd)
}

// openAt opens a directory or regular file below parent for reading and checks that it is one. path is for errors.
// O_NONBLOCK is for a fifo that takes the name's place after it was listed: it fails the check instead of hanging.
func openAt(parent int, name, path string, kind uint32) (int, *unix.Stat_t, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd := -1
	open := func(extra int) error {
		return retry(func() (err error) {
			fd, err = unix.Openat(parent, name, flags|extra, 0)
			return err
		})
	}

	// Reading must not dirty each inode with a new access time; only owners may ask for that, open(2).
	err := open(unix.O_NOATIME)
	if errors.Is(err, unix.EPERM) {
		err = open(0)
	}
	if err != nil {
		return -1, nil, &os.PathError{Op: "open", Path: path, Err: err}
	}

	st := new(unix.Stat_t)
	if err := retry(func() error { return unix.Fstat(fd, st) }); err != nil {
		closeFD(fd)
		return -1, nil, &os.PathError{Op: "fstat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != kind {
		closeFD(fd)
		return -1, nil, fmt.Errorf("%q: %w", path, ErrChanged)
	}

	return fd, st, nil
}

func statAt(parent int, name, path string) (*unix.Stat_t, error) {
	st := new(unix.Stat_t)
	err := retry(func() error { return unix.Fstatat(parent, name, st, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return st, nil
}

func readlinkAt(parent int, name, path string) (string, error) {
	buf := make([]byte, maxPath)
	n := 0
	err := retry(func() (err error) {
		n, err = unix.Readlinkat(parent, name, buf)
		return err
	})
	if err != nil {
		return "", &os.PathError{Op: "readlink", Path: path, Err: err}
	}
	return string(buf[:n]), nil
}

func read(fd int, p []byte) (n int, err error) {
	err = retry(func() error {
		n, err = unix.Read(fd, p)
		return err
	})
	return n, err
}

// fileMode converts permission bits to those of package os.
func fileMode(mode uint32) os.FileMode {
	m := os.FileMode(mode & 0o777)
	if mode&unix.S_ISUID != 0 {
		m |= os.ModeSetuid
	}
	if mode&unix.S_ISGID != 0 {
		m |= os.ModeSetgid
	}
	if mode&unix.S_ISVTX != 0 {
		m |= os.ModeSticky
	}
	return m
}

// attributes reads what matters of the extended attributes of an open file. A file system without them has none.
func (t *writer) attributes(fd int, path string) (attributes, error) {
	var a attributes
	names, err := sized(func(buf []byte) (int, error) { return unix.Flistxattr(fd, buf) })
	if errors.Is(err, unix.ENOTSUP) {
		return a, nil
	}
	if err != nil {
		return a, &os.PathError{Op: "listxattr", Path: path, Err: err}
	}

	for name := range strings.SplitSeq(strings.TrimSuffix(names, "\x00"), "\x00") {
		if !strings.HasPrefix(name, t.opts.Xattrs) && !keptXattr(name) {
			continue
		}
		value, err := sized(func(buf []byte) (int, error) { return unix.Fgetxattr(fd, name, buf) })
		if err != nil {
			return a, &os.PathError{Op: "getxattr " + name, Path: path, Err: err}
		}
		a.add(t.opts.Xattrs, name, value)
	}

	if a.forbidden != "" {
		return a, &RefusedError{path, a.forbidden + " is set: its content is in a lower layer (mount overlay with redirect_dir=off,metacopy=off)"}
	}

	return a, nil
}

// sized calls f, which like getxattr(2) tells the size it needs when the buffer is empty, and returns what f gives.
func sized(f func(buf []byte) (int, error)) (string, error) {
	call := func(buf []byte) (n int, err error) {
		err = retry(func() error {
			n, err = f(buf)
			return err
		})
		return n, err
	}

	n, err := call(nil)
	if err != nil || n == 0 {
		return "", err
	}

	buf := make([]byte, n)
	if n, err = call(buf); err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// dirent is one name in a directory; kind is DT_REG and the like.
type dirent struct {
	name string
	kind uint8
}

// readDir lists an open directory, sorted by the bytes of the names. buf is scratch space.
func readDir(fd int, buf []byte) ([]dirent, error) {
	// The offset belongs to the open file, which the caller may have read before.
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return nil, os.NewSyscallError("lseek", err)
	}

	var entries []dirent
	for {
		var n int
		err := retry(func() (err error) {
			n, err = unix.Getdents(fd, buf)
			return err
		})
		if err != nil {
			return nil, os.NewSyscallError("getdents64", err)
		}
		if n == 0 {
			break
		}
		entries = appendDirents(entries, buf[:n])
	}

	slices.SortFunc(entries, func(a, b dirent) int { return strings.Compare(a.name, b.name) })

	return entries, nil
}

// appendDirents decodes struct linux_dirent64, getdents(2): inode and offset of 8 bytes each, the length of the
// record in 2 (host order; every platform of this program is little-endian), the type in 1, the name and a NUL.
func appendDirents(entries []dirent, buf []byte) []dirent {
	const lengthAt, kindAt, nameAt = 16, 18, 19
	for len(buf) > nameAt {
		length := binary.NativeEndian.Uint16(buf[lengthAt:])
		name, _, _ := bytes.Cut(buf[nameAt:length], []byte{0})
		if s := string(name); s != "." && s != ".." {
			entries = append(entries, dirent{s, buf[kindAt]})
		}
		buf = buf[length:]
	}
	return entries
}
