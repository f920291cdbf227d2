// Package lease lends a process a file or a directory that the next process removes if this process
// dies.
//
// A lease belongs to the process that holds its lock. The kernel gives the lock back when that
// process ends, also if the process is killed, so the lock alone says whether the owner lives. This
// is true between PID namespaces and containers, where the number of a process means nothing.
//
//	l, err := lease.New(lease.Inside("staging.lock"), "/store/overlay/tempdirs", "rbuild-")
//	...                      // use l.Path(), for example /store/overlay/tempdirs/rbuild-7QXK…
//	err = l.Release()        // removes the directory, then gives the lock back
//
//	err = lease.Reap(form, "/store/overlay/tempdirs", isOurs) // removes leases of dead processes
//
// # Rules
//
//   - A [Form] says how a lease looks on disk and which file carries the lock. All leases below a
//     directory whose names have the same prefix must have the same form.
//   - Only the process that has the lock may remove the lease. The lock file is removed last: as long
//     as the lock file exists, no other process can get the lock.
//   - A new lease is not locked for a moment. Reap of another process can then take the lease for that
//     of a dead process. Therefore Claim looks again after locking, and makes the lease again if the lease is
//     gone. Claim retries for up to [Patience].
//   - A process can be killed between any two steps. Reap removes every state that the process can
//     leave, for example a directory without a lock file.
//   - Release and Reap of existing files need no free space on the disk.
//
// Locks belong to open file descriptions (fcntl(2), F_OFD_SETLK, Linux 3.15), or flock(2) where
// the lease is a directory of a file system without regular files, such as cgroup.
// The functions may be called by several goroutines and processes at once.
package lease

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Patience bounds how long [New] and [Claim] try again while other processes remove the new lease.
// Under load a process may wait long for the processor between locking a lease and removing the
// files.
const Patience = 30 * time.Second

// pause is the time between two tries.
const pause = time.Millisecond

// errTaken says that another process has taken a new lease for a lease of a dead process.
var errTaken = errors.New("another process keeps removing it")

// Form is the form of a lease on disk, with the place of the lock: [File], [Inside], [Beside] or
// [Directory].
type Form interface {
	// path returns the path of the lease to which the directory entry name belongs.
	path(parent, name string) string
	// create makes the lease at path. The error is fs.ErrExist if the path exists.
	create(path string) error
	// open opens the file that carries the lock. A missing lock file is made, except with File and
	// Directory.
	open(path string) (*os.File, error)
	// tryLock locks the file that open has returned, or reports false if somebody else has the
	// lock.
	tryLock(lock *os.File) (bool, error)
	// remove removes the lease at path and the lock file, the lock file last. The caller has the
	// lock. A missing lease is no error.
	remove(path string) error
}

// Lease is a file or directory that belongs to this process until Release or Leave.
type Lease struct {
	form Form
	path string
	lock *os.File // nil: ended
}

// New makes a lease below parent, which exists. The name is prefix followed by 26 random characters
// from A-Z and 2-7.
func New(form Form, parent, prefix string) (*Lease, error) {
	return Claim(form, filepath.Join(parent, prefix+rand.Text()))
}

// Claim makes a lease at path, or takes the file or directory that exists there if nobody has the
// lock. The caller must be the only process that uses this path.
func Claim(form Form, path string) (*Lease, error) {
	for deadline := time.Now().Add(Patience); ; time.Sleep(pause) {
		createErr := form.create(path)
		if createErr != nil && !errors.Is(createErr, fs.ErrExist) {
			return nil, createErr
		}

		l, err := take(form, path)
		switch {
		case errors.Is(err, errTaken) && time.Now().Before(deadline):
			continue
		case errors.Is(err, errTaken) || err != nil && createErr != nil:
			return nil, err
		case err != nil:
			return nil, errors.Join(err, form.remove(path))
		}
		return restore(l)
	}
}

// restore makes the directory of a locked lease again if another process has removed the directory
// before the lock file was made, as is possible with Beside.
func restore(l *Lease) (*Lease, error) {
	if exists(l.path) {
		return l, nil
	}
	if err := l.form.create(l.path); err != nil {
		return nil, errors.Join(err, l.Release())
	}
	return l, nil
}

// take locks the lease at path. The error is errTaken if another process has the lock, or has
// removed the lease.
func take(form Form, path string) (*Lease, error) {
	lock, err := form.open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errTaken
	}
	if err != nil {
		return nil, err
	}

	free, err := form.tryLock(lock)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if !free || !isAt(lock, lock.Name()) {
		return nil, errors.Join(errTaken, lock.Close())
	}

	return &Lease{form: form, path: path, lock: lock}, nil
}

// exists reports whether there is a file of any type at path.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// isAt reports whether the open file f is the file at path now: after a removal, another file may
// be.
func isAt(f *os.File, path string) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(path)
	if err != nil {
		return false
	}
	return os.SameFile(open, there)
}

// Path returns the path of the file or directory.
func (l *Lease) Path() string { return l.path }

// File returns the file that carries the lock. With the form [File] this file is the lease, open
// for reading and writing. The Lease closes the file. Nil after Release or Leave.
func (l *Lease) File() *os.File { return l.lock }

// Release removes the lease and gives the lock back, also if the removal fails. After Release or
// Leave, and for a nil Lease, Release does nothing.
func (l *Lease) Release() error {
	if l == nil || l.lock == nil {
		return nil
	}
	return errors.Join(l.form.remove(l.path), l.Leave())
}

// Leave gives the lock back and leaves the files to the next Reap. After Release or Leave, and for
// a nil Lease, Leave does nothing.
func (l *Lease) Leave() error {
	if l == nil || l.lock == nil {
		return nil
	}
	lock := l.lock
	l.lock = nil
	return lock.Close()
}

// Dead locks the leases of dead processes below parent whose names match accepts, and returns them.
// The caller ends each with Release or Leave. Leases that cannot be opened are left out. A parent
// that does not exist has no leases.
func Dead(form Form, parent string, match func(name string) bool) (dead []*Lease, err error) {
	err = each(form, parent, match, func(l *Lease, err error) error {
		if l != nil {
			dead = append(dead, l)
		}
		return nil
	})
	return dead, err
}

// Reap removes the leases of dead processes below parent whose names match accepts. Reap goes on
// after an error. A parent that does not exist has no leases.
func Reap(form Form, parent string, match func(name string) bool) error {
	return each(form, parent, match, func(l *Lease, err error) error {
		if errors.Is(err, errTaken) {
			return nil
		}
		if err != nil {
			return err
		}
		return l.Release()
	})
}

// each calls fn for every lease below parent, with the lease locked or with the error of take.
func each(form Form, parent string, match func(name string) bool, fn func(*Lease, error) error) error {
	entries, err := os.ReadDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}

	var paths []string
	for _, e := range entries {
		if match(e.Name()) {
			paths = append(paths, form.path(parent, e.Name()))
		}
	}
	slices.Sort(paths)

	var errs []error
	for _, path := range slices.Compact(paths) {
		errs = append(errs, fn(take(form, path)))
	}

	return errors.Join(errs...)
}
