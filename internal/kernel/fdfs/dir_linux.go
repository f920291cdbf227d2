package fdfs

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Dir is an open directory: one of the kernel's (OnDisk), or one that another package keeps. Names are one component;
// what takes "." says so. Errors are those of the system calls, whoever returns them: fs.ErrNotExist, fs.ErrExist, ENOTDIR.
type Dir interface {
	// OpenDir opens the directory name, or "." again, for reading. A symbolic link is ENOTDIR, never followed.
	OpenDir(name string) (Dir, error)
	// OpenPlace is OpenDir for a place to go on from: no permission on the directory itself is needed.
	OpenPlace(name string) (Dir, error)
	// OpenFile opens a file for reading and never waits; see OpenFileAt.
	OpenFile(name string) (File, Stat, error)
	// Names lists the directory, in no order.
	Names() ([]string, error)
	// Stat tells what name, or ".", is; a symbolic link is not followed.
	Stat(name string) (Stat, error)
	Readlink(name string) (string, error)

	Mkdir(name string, mode uint32) error
	// Create makes a file that will have size bytes at most.
	Create(name string, size int64) (File, error)
	Symlink(target, name string) error
	// Link makes name another name of the file old of from, a directory of the same kind.
	Link(from Dir, old, name string) error
	Mknod(name string, t Type, mode uint32, rdev uint64) error
	Unlink(name string) error
	Rmdir(name string) error

	// Of name or ".", of a symbolic link its own:
	Chown(name string, uid, gid uint32) error
	Chmod(name string, mode uint32) error
	SetMtime(name string, t Time) error
	// Setxattr sets an extended attribute of the directory itself.
	Setxattr(key string, value []byte) error

	Close() error
}

// File is an open regular file of a Dir.
type File interface {
	io.ReadWriteCloser
	io.WriterAt
	Truncate(size int64) error
	Attributes() (Stat, error)
	SetOwner(uid, gid uint32) error
	SetMode(mode uint32) error
	Getxattr(key string) ([]byte, error)
	Setxattr(key string, value []byte) error
}

// OnDisk is the open directory f as a Dir.
func OnDisk(f *os.File) Dir { return diskDir{f} }

// FileOf is the kernel's descriptor of a Dir that OnDisk made, or that was opened from one; nil: it is no such Dir.
func FileOf(d Dir) *os.File {
	disk, _ := d.(diskDir)
	return disk.File
}

// DiskFile is FileOf for a File.
func DiskFile(f File) *os.File {
	disk, _ := f.(diskFile)
	return disk.File
}

type diskDir struct{ *os.File }

func openedDir(f *os.File, err error) (Dir, error) {
	if err != nil {
		return nil, err
	}
	return diskDir{f}, nil
}

func (d diskDir) OpenDir(name string) (Dir, error) { return openedDir(OpenDirAt(d.File, name)) }

func (d diskDir) OpenPlace(name string) (Dir, error) {
	return openedDir(openAt(d.File, name, unix.O_PATH|unix.O_DIRECTORY, 0))
}

func (d diskDir) OpenFile(name string) (File, Stat, error) {
	f, st, err := OpenFileAt(d.File, name)
	if err != nil {
		return nil, st, err
	}
	return diskFile{f}, st, nil
}

func (d diskDir) Create(name string, _ int64) (File, error) {
	f, err := CreateAt(d.File, name)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

func (d diskDir) Link(from Dir, old, name string) error {
	f := FileOf(from)
	if f == nil {
		return pathError("link", name, unix.EXDEV)
	}
	return LinkAt(f, old, d.File, name)
}

func (d diskDir) Names() ([]string, error)             { return d.Readdirnames(-1) }
func (d diskDir) Stat(name string) (Stat, error)       { return StatAt(d.File, name) }
func (d diskDir) Readlink(name string) (string, error) { return ReadlinkAt(d.File, name) }
func (d diskDir) Mkdir(name string, mode uint32) error { return MkdirAt(d.File, name, mode) }
func (d diskDir) Symlink(target, name string) error    { return SymlinkAt(target, d.File, name) }
func (d diskDir) Unlink(name string) error             { return UnlinkAt(d.File, name) }
func (d diskDir) Rmdir(name string) error              { return RmdirAt(d.File, name) }
func (d diskDir) Chmod(name string, mode uint32) error { return ChmodAt(d.File, name, mode) }
func (d diskDir) SetMtime(name string, t Time) error   { return SetMtimeAt(d.File, name, t) }

func (d diskDir) Mknod(name string, t Type, mode uint32, rdev uint64) error {
	return MknodAt(d.File, name, t, mode, rdev)
}

func (d diskDir) Chown(name string, uid, gid uint32) error { return ChownAt(d.File, name, uid, gid) }

func (d diskDir) Setxattr(key string, value []byte) error { return Setxattr(d.File, key, value) }

type diskFile struct{ *os.File }

func (f diskFile) Attributes() (Stat, error)               { return FileStat(f.File) }
func (f diskFile) SetOwner(uid, gid uint32) error          { return Chown(f.File, uid, gid) }
func (f diskFile) SetMode(mode uint32) error               { return Chmod(f.File, mode) }
func (f diskFile) Getxattr(key string) ([]byte, error)     { return Getxattr(f.File, key) }
func (f diskFile) Setxattr(key string, value []byte) error { return Setxattr(f.File, key, value) }
