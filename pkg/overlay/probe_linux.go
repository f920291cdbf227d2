package overlay

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/remedy"
)

// Error explains why an overlay cannot have its upper directory below Dir.
type Error struct {
	Dir    string
	Detail string // the cause
	Fix    string // the remedy; empty: not known
	Err    error  // the error of the kernel
}

// Error returns "ERR: DETAIL; FIX".
func (e *Error) Error() string { return fmt.Sprintf("%v: %s", e.Err, remedy.Text(e.Remedy())) }

// Remedy returns Detail and Fix.
func (e *Error) Remedy() (why, do string) { return e.Detail, e.Fix }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// ProbePrefix is the first part of the names of the directories that Probe creates, for example
// overlay-probe-123. A Probe that was killed leaves its directory behind.
const ProbePrefix = "overlay-probe-"

// Probe mounts an overlay with its upper directory below dir and changes a file, and returns an
// error if that does not work for this process. Probe creates a directory in dir and removes it.
// trusted has the meaning of Mount.Trusted. The error is an *Error if the kernel refused the mount
// or the change and the cause is known.
func Probe(dir string, trusted bool) (err error) {
	base, err := os.MkdirTemp(dir, ProbePrefix)
	if err != nil {
		return fmt.Errorf("probing overlay: %w", err)
	}
	defer func() {
		if removeErr := os.RemoveAll(base); removeErr != nil {
			err = cmp.Or(err, fmt.Errorf("probing overlay: %w", removeErr))
		}
	}()

	for _, name := range []string{"lower/dir", "upper", "work"} {
		if err := os.MkdirAll(filepath.Join(base, name), 0o755); err != nil {
			return fmt.Errorf("probing overlay: %w", err)
		}
	}

	m := Mount{
		Lowers:  []string{filepath.Join(base, "lower")},
		Upper:   filepath.Join(base, "upper"),
		Work:    filepath.Join(base, "work"),
		Trusted: trusted,
	}

	root, err := Open(m)
	if err != nil {
		return explain(dir, err)
	}

	err = errors.Join(replaceDir(fmt.Sprintf("/proc/self/fd/%d/dir", root.Fd())), root.Close())
	if errors.Is(err, unix.EROFS) {
		// The kernel could not create the directory "work", for example on a full file system.
		return fmt.Errorf("probing overlay: the kernel mounted an overlay at %s read-only: %w", dir, err)
	}
	if err != nil {
		return &Error{
			Dir: dir,
			Detail: fmt.Sprintf("an overlay at %s can be mounted but not changed; "+
				"the file system may lack extended attributes or whiteouts", dir),
			Fix: "use a directory of another file system (with rbuild: --root)",
			Err: err,
		}
	}

	return nil
}

// replaceDir replaces a directory of the lower layer, which needs a whiteout and the attribute
// opaque.
func replaceDir(dir string) error {
	if err := os.Remove(dir); err != nil {
		return err
	}
	return os.Mkdir(dir, 0o755)
}

// Magic numbers of file systems that cannot hold an upper directory, statfs(2).
const (
	overlayMagic = 0x794c7630
	nfsMagic     = 0x6969
)

// explain adds the cause and the remedy to the error of a mount, if they are known.
func explain(dir string, err error) error {
	var fs unix.Statfs_t
	kind := fs.Type // the width depends on the architecture
	if statErr := unix.Statfs(dir, &fs); statErr == nil {
		kind = fs.Type
	}
	e := &Error{Dir: dir, Err: err}
	switch {
	case errors.Is(err, unix.EINVAL) && kind == overlayMagic:
		e.Detail = dir + " is on an overlay file system, such as a container's root, " +
			"which cannot hold the upper directory of another overlay"
		e.Fix = "mount a volume there (in a pod an emptyDir) or use another directory (with rbuild: --root)"
	case kind == nfsMagic:
		e.Detail = dir + " is on NFS, which cannot hold changes of an overlay"
		e.Fix = "use a local directory (with rbuild: --root)"
	case errors.Is(err, unix.EINVAL):
		e.Detail = fmt.Sprintf("the file system of %s cannot hold an overlay's upper directory, "+
			"or the kernel is older than 5.11", dir)
		e.Fix = "mount a volume there or use another directory (with rbuild: --root)"
	case errors.Is(err, unix.ENODEV):
		e.Detail = "the kernel has no overlay file system"
		e.Fix = "run as root: modprobe overlay"
	case errors.Is(err, unix.EPERM):
		e.Detail = "mounting in a user namespace is refused: it takes Linux 5.11, " +
			"and no seccomp filter or AppArmor profile that denies mount"
		e.Fix = "in a pod set seccompProfile.type: Unconfined and appArmorProfile.type: Unconfined"
	case errors.Is(err, unix.EACCES):
		e.Detail = "a security module such as AppArmor denies the mount"
		e.Fix = "in a pod set appArmorProfile.type: Unconfined"
	default:
		return err
	}

	return e
}
