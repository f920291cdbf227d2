package fdfs

import (
	"io"
	"os"
)

// Dir is an open directory: a directory of the kernel ([OnDisk]) or a directory that another
// package keeps, for example in memory. So the rules of COPY exist once for both.
//
// The parameter name is one component of a path, such as "etc", never "etc/passwd" or "..". Methods
// that accept "." for the directory itself say so. A symbolic link is never followed: see [Cursor]
// for paths. Every implementation returns the errors of the system calls in an [*os.PathError]:
// fs.ErrNotExist, fs.ErrExist, ENOTDIR. Methods of one Dir may be called by several goroutines.
type Dir interface {
	Reader
	Writer

	// Close closes the directory. Directories and files that were opened from it stay open.
	Close() error
}

// Reader is the part of a [Dir] that reads.
type Reader interface {
	// OpenDir opens the directory name or ".". The permission to list the directory is needed by
	// Names only. If name is a symbolic link or a file, the error is ENOTDIR. The caller closes the
	// Dir.
	OpenDir(name string) (Dir, error)
	// OpenFile opens the file name for reading and returns its status. OpenFile never waits,
	// neither for the writer of a fifo nor for a device: the caller looks at Stat.Type before it
	// reads. If name is a symbolic link, the error is ELOOP. The caller closes the File.
	OpenFile(name string) (File, Stat, error)
	// Names returns the names of all entries but "." and "..", in no order.
	Names() ([]string, error)
	// Stat returns the status of name or ".". The status of a symbolic link is that of the link.
	Stat(name string) (Stat, error)
	// Readlink returns the target of the symbolic link name.
	Readlink(name string) (string, error)
}

// Writer is the part of a [Dir] that writes.
type Writer interface {
	// Make creates the entry name as e describes it. If an entry of that name exists, the error is
	// fs.ErrExist.
	Make(name string, e Entry) error
	// Create creates the regular file name, mode 0600, which will have at most size bytes. If an
	// entry of that name exists, the error is fs.ErrExist. The caller closes the NewFile.
	Create(name string, size int64) (NewFile, error)
	// Link creates name as a hard link to the file old of the directory from, which is of the same
	// file system.
	Link(name string, from Dir, old string) error
	// SetAttributes changes the attributes of name or ".". The attributes of a symbolic link are
	// changed, not those of its target.
	SetAttributes(name string, a Attributes) error
	// Unlink removes name, which is not a directory.
	Unlink(name string) error
	// Rmdir removes the empty directory name.
	Rmdir(name string) error
}

// File is a file that is open for reading.
type File interface {
	io.ReadCloser
	// Stat returns the status of the file as it is now.
	Stat() (Stat, error)
	// Getxattr returns the extended attribute key, at most 64 KiB, or nil if the file has no such
	// attribute.
	Getxattr(key string) ([]byte, error)
}

// NewFile is a regular file that [Writer.Create] made, open for writing.
type NewFile interface {
	io.WriteCloser
	io.WriterAt
	// Truncate sets the size in bytes. Bytes that were never written are zeros.
	Truncate(size int64) error
	SetAttributes(a Attributes) error
}

// Owner is a user and a group by number, as the user namespace of the caller sees them. The zero
// value is root.
type Owner struct{ UID, GID uint32 }

// Attributes are changes to an inode. The zero value changes nothing.
//
// They are made in this order, because a change of the owner clears setuid, setgid and capabilities
// (chown(2)): owner, mode, extended attributes, time.
type Attributes struct {
	Owner *Owner
	// Mode has the permission bits with setuid, setgid and sticky: at most 07777. It is ignored for
	// a symbolic link that is made.
	Mode *uint32
	// Xattrs are extended attributes, for example "user.kind": "blue". Others of the inode stay.
	// With [Writer.SetAttributes] they are for directories only.
	Xattrs map[string]string
	Mtime  *Time // the time of access stays
}

// Entry describes a new directory, symbolic link, fifo or device. Attributes that are nil are those
// of a new inode of the caller; the mode is 0700 for a directory and 0600 for a fifo or device
// then.
type Entry struct {
	// Type is Directory, Symlink, Fifo, CharDevice or BlockDevice. In a user namespace the kernel
	// forbids devices (EPERM).
	Type   Type
	Target string // of a symbolic link: the text as it is, absolute or relative
	Rdev   uint64 // of a device: its number
	Attributes
}

// HasDescriptor is implemented by a [Dir], [File] or [NewFile] of the kernel. Overlay and bind
// mounts need a descriptor, and files of the kernel are copied with copy_file_range(2) and
// SEEK_DATA. A Dir in memory does not implement it.
type HasDescriptor interface {
	// Descriptor returns the open file, which belongs to the Dir, File or NewFile: the caller does
	// not close it.
	Descriptor() *os.File
}

// DescriptorOf returns the descriptor of x, which is a [Dir], [File] or [NewFile], or nil if x is
// not of the kernel.
func DescriptorOf(x io.Closer) *os.File {
	if d, ok := x.(HasDescriptor); ok {
		return d.Descriptor()
	}
	return nil
}

// RemoveAll removes name of dir, and all entries of a directory, without following symbolic links.
func RemoveAll(dir Dir, name string) error {
	st, err := dir.Stat(name)
	if err != nil {
		return err
	}
	if st.Type != Directory {
		return dir.Unlink(name)
	}
	if err := removeEntries(dir, name); err != nil {
		return err
	}

	return dir.Rmdir(name)
}

// removeEntries removes all entries of the directory name of dir.
func removeEntries(dir Dir, name string) error {
	sub, err := dir.OpenDir(name)
	if err != nil {
		return err
	}
	defer sub.Close() // only opened

	names, err := sub.Names()
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := RemoveAll(sub, n); err != nil {
			return err
		}
	}

	return nil
}
