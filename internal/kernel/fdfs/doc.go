// Package fdfs holds the file system calls that the standard library lacks: files named relative to
// an open directory, locks, detached mounts, free space.
//
// Every function that takes a name below a directory takes one component, for example "passwd", and
// refuses "a/b" and ".." with EINVAL. No such function follows a symbolic link in that component.
// So no rename or link that another process makes meanwhile can lead outside the directory.
// [Cursor] follows paths and links inside a root by these calls.
//
// Rules of all functions:
//   - A descriptor that a function returns is close-on-exec, and the caller closes it.
//   - An error about a file is an [os.PathError] with the name that was given; any other error is an
//     [os.SyscallError]. Both wrap the error number: errors.Is(err, fs.ErrNotExist) works.
//   - EINTR is retried.
//   - The functions may be called from several goroutines.
//
// The package also exports the error numbers, open flags and signals that other packages need, so
// that only packages that make system calls import golang.org/x/sys/unix.
package fdfs
