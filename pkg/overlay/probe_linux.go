package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Probe tells whether overlays with their upper directory below dir work for this process, by
// making one and changing it. It creates and removes a directory in dir. The error says what the
// kernel refused, why, and what to change.
func Probe(dir string, trusted bool) (err error) {
	base, err := os.MkdirTemp(dir, "overlay-probe-")
	if err != nil {
		return fmt.Errorf("probing overlay: %w", err)
	}
	defer func() {
		if e := os.RemoveAll(base); e != nil && err == nil {
			err = fmt.Errorf("probing overlay: %w", e)
		}
	}()
	for _, name := range []string{"lower/dir", "upper", "work"} {
		if err := os.MkdirAll(filepath.Join(base, name), 0o755); err != nil {
			return fmt.Errorf("probing overlay: %w", err)
		}
	}
	m := Mount{
		Lowers: []string{filepath.Join(base, "lower")},
		Upper:  filepath.Join(base, "upper"), Work: filepath.Join(base, "work"), Trusted: trusted,
	}
	root, err := Open(m)
	if err != nil {
		return explain(dir, err)
	}
	err = errors.Join(replaceDir(fmt.Sprintf("/proc/self/fd/%d/dir", root.Fd())), root.Close())
	if err != nil {
		return fmt.Errorf("overlay mounts at %s and does not work there: %w; the file system below it may lack extended attributes or whiteouts: use another with --root", dir, err)
	}
	return nil
}

// replaceDir makes a whiteout and a directory over it, which needs the attribute for opaque.
func replaceDir(dir string) error {
	if err := os.Remove(dir); err != nil {
		return err
	}
	return os.Mkdir(dir, 0o755)
}

// The magic numbers of file systems that an upper directory cannot be on (statfs(2)).
const (
	overlayMagic = 0x794c7630
	nfsMagic     = 0x6969
)

// explain adds the cause and the remedy to the error of a mount.
func explain(dir string, err error) error {
	var fs unix.Statfs_t
	kind := fs.Type // of another width on some architectures
	if e := unix.Statfs(dir, &fs); e == nil {
		kind = fs.Type
	}
	switch {
	case errors.Is(err, unix.EINVAL) && kind == overlayMagic:
		return fmt.Errorf("%w: %s is on an overlay file system, such as a container's root, and overlays cannot be stacked there: mount a volume there or pass --root", err, dir)
	case kind == nfsMagic:
		return fmt.Errorf("%w: %s is on NFS, which cannot hold changes of an overlay: pass --root with a local directory", err, dir)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w: the file system of %s cannot hold an overlay's upper directory, or the kernel is older than 5.11: mount a volume there or pass --root", err, dir)
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%w: the kernel has no overlay file system: load it with modprobe overlay", err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: mounting in a user namespace is refused: it takes Linux 5.11, and no seccomp filter or AppArmor profile that denies mount", err)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: a security module such as AppArmor denies the mount", err)
	}
	return err
}
