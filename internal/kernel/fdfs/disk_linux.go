package fdfs

import (
	"maps"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// OnDisk returns the directory f of the kernel as a [Dir]. To close the Dir is to close f.
func OnDisk(f *os.File) Dir { return diskDir{f} }

// diskDir is a directory of the kernel, open as a place (O_PATH) or for reading.
type diskDir struct{ f *os.File }

func (d diskDir) Descriptor() *os.File { return d.f }
func (d diskDir) Close() error         { return d.f.Close() }

func (d diskDir) OpenDir(name string) (Dir, error) {
	f, err := openAt(d.f, name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return diskDir{f}, nil
}

func (d diskDir) OpenFile(name string) (File, Stat, error) {
	f, st, err := OpenFileAt(d.f, name)
	if err != nil {
		return nil, st, err
	}
	return diskFile{f}, st, nil
}

// Names opens the directory again: a place cannot be listed, and each call starts at the first
// entry.
func (d diskDir) Names() ([]string, error) {
	f, err := d.forReading()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// forReading opens the directory itself for reading. Errors show the name of the directory, not
// ".".
func (d diskDir) forReading() (*os.File, error) {
	fd, err := retry(func() (int, error) {
		return unix.Openat(int(d.f.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, pathError("open", d.f.Name(), err)
	}
	return os.NewFile(uintptr(fd), d.f.Name()), nil
}

func (d diskDir) Stat(name string) (Stat, error)       { return StatAt(d.f, name) }
func (d diskDir) Readlink(name string) (string, error) { return ReadlinkAt(d.f, name) }

func (d diskDir) Make(name string, e Entry) error {
	var err error
	switch e.Type {
	case Directory:
		err = MkdirAt(d.f, name, 0o700)
	case Symlink:
		err = SymlinkAt(e.Target, d.f, name)
		e.Mode = nil // a link has none
	case Fifo, CharDevice, BlockDevice:
		err = MknodAt(d.f, name, e.Type, 0o600, e.Rdev)
	case Regular, Socket, Unknown:
		err = pathError("make", name, unix.EINVAL)
	}
	if err != nil {
		return err
	}

	return d.SetAttributes(name, e.Attributes)
}

func (d diskDir) Create(name string, _ int64) (NewFile, error) {
	f, err := CreateAt(d.f, name)
	if err != nil {
		return nil, err
	}
	return newDiskFile{f}, nil
}

func (d diskDir) Link(name string, from Dir, old string) error {
	f := DescriptorOf(from)
	if f == nil {
		return pathError("link", name, unix.EXDEV)
	}
	return LinkAt(f, old, d.f, name)
}

func (d diskDir) SetAttributes(name string, a Attributes) error {
	if a.Owner != nil {
		if err := ChownAt(d.f, name, a.Owner.UID, a.Owner.GID); err != nil {
			return err
		}
	}
	if a.Mode != nil {
		if err := ChmodAt(d.f, name, *a.Mode); err != nil {
			return err
		}
	}
	if len(a.Xattrs) > 0 {
		if err := setDirXattrs(d.f, name, a.Xattrs); err != nil {
			return err
		}
	}
	if a.Mtime != nil {
		return SetMtimeAt(d.f, name, *a.Mtime)
	}

	return nil
}

// setDirXattrs sets extended attributes of the directory name of dir.
func setDirXattrs(dir *os.File, name string, xattrs map[string]string) error {
	f, err := OpenDirAt(dir, name)
	if err != nil {
		return err
	}
	defer f.Close()
	return setXattrs(f, xattrs)
}

// setXattrs sets extended attributes in the order of their names, so that an error is the same
// every time.
func setXattrs(f *os.File, xattrs map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(xattrs)) {
		if err := Setxattr(f, key, []byte(xattrs[key])); err != nil {
			return err
		}
	}
	return nil
}

func (d diskDir) Unlink(name string) error { return UnlinkAt(d.f, name) }
func (d diskDir) Rmdir(name string) error  { return RmdirAt(d.f, name) }

// diskFile is a file of the kernel that is open for reading.
type diskFile struct{ f *os.File }

func (d diskFile) Descriptor() *os.File                { return d.f }
func (d diskFile) Close() error                        { return d.f.Close() }
func (d diskFile) Read(p []byte) (int, error)          { return d.f.Read(p) }
func (d diskFile) Stat() (Stat, error)                 { return FileStat(d.f) }
func (d diskFile) Getxattr(key string) ([]byte, error) { return Getxattr(d.f, key) }

// newDiskFile is a file of the kernel that is open for writing.
type newDiskFile struct{ f *os.File }

func (d newDiskFile) Descriptor() *os.File                     { return d.f }
func (d newDiskFile) Close() error                             { return d.f.Close() }
func (d newDiskFile) Write(p []byte) (int, error)              { return d.f.Write(p) }
func (d newDiskFile) WriteAt(p []byte, off int64) (int, error) { return d.f.WriteAt(p, off) }
func (d newDiskFile) Truncate(size int64) error                { return d.f.Truncate(size) }

func (d newDiskFile) SetAttributes(a Attributes) error {
	if a.Owner != nil {
		if err := Chown(d.f, a.Owner.UID, a.Owner.GID); err != nil {
			return err
		}
	}
	if a.Mode != nil {
		if err := Chmod(d.f, *a.Mode); err != nil {
			return err
		}
	}
	if err := setXattrs(d.f, a.Xattrs); err != nil {
		return err
	}
	if a.Mtime != nil {
		return setMtime(d.f, *a.Mtime)
	}

	return nil
}

// setMtime changes the modification time of the open file f and leaves the access time.
// utimensat(2) without a path is futimens(3); package unix offers the call only with a path, and
// AT_EMPTY_PATH needs Linux 5.8.
func setMtime(f *os.File, t Time) error {
	times := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: t.Sec, Nsec: t.Nsec}}
	err := retry0(func() error {
		_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, f.Fd(), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0)
		if errno != 0 {
			return errno
		}
		return nil
	})
	return pathError("utimensat", f.Name(), err)
}
