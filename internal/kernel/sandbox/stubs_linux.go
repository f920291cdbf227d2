package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

// A stub is an empty directory or file that stands in for a mount target.
type stub struct {
	path string // absolute and clean
	dir  bool
}

// targets returns the stubs of the mounts whose targets are in the image, not in another mount.
func (c Config) targets() ([]stub, error) {
	var stubs []stub
	var above []string
	for _, m := range c.Spec.Mounts {
		s := stub{path.Clean(m.Destination), true}
		if isBind(m) {
			dir, err := c.sourceIsDir(m)
			if err != nil {
				return nil, err
			}
			s.dir = dir
		}

		nested := false
		for _, a := range above {
			nested = nested || s.path == a || strings.HasPrefix(s.path, a+"/")
		}
		if !nested {
			stubs = append(stubs, s)
		}
		above = append(above, s.path)
	}

	return stubs, nil
}

func (c Config) sourceIsDir(m specs.Mount) (bool, error) {
	var st fs.FileInfo
	var err error
	if f := c.Sources[m.Destination]; f != nil {
		st, err = f.Stat()
	} else {
		st, err = os.Stat(m.Source)
	}
	if err != nil {
		return false, fmt.Errorf("mounting at %s: %w", m.Destination, err)
	}
	return st.IsDir(), nil
}

// stubs returns a directory with the stubs for the mounts of c. The directory becomes the lowest
// layer: files of the image hide the stubs. It is made once for each set of targets, and appears
// complete.
func (c Config) stubs() (string, error) {
	list, err := c.targets()
	if err != nil {
		return "", err
	}

	sum := sha256.New()
	for _, s := range list {
		fmt.Fprintf(sum, "%q %v\n", s.path, s.dir)
	}
	dir := filepath.Join(c.Stubs, hex.EncodeToString(sum.Sum(nil)[:8]))
	var st unix.Stat_t
	if unix.Lstat(dir, &st) == nil {
		return dir, nil
	}

	temp, err := makeStubs(c.Stubs, list)
	if err != nil {
		return "", err
	}
	if err := os.Rename(temp, dir); err != nil {
		err = errors.Join(fmt.Errorf("making mount stubs: %w", err), os.RemoveAll(temp))
		if unix.Lstat(dir, &st) == nil {
			return dir, nil // another process was faster
		}
		return "", err
	}

	return dir, nil
}

// makeStubs makes a new directory in base with the stubs of list.
func makeStubs(base string, list []stub) (string, error) {
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", fmt.Errorf("making mount stubs: %w", err)
	}

	temp, err := os.MkdirTemp(base, "new-")
	if err != nil {
		return "", fmt.Errorf("making mount stubs: %w", err)
	}

	err = os.Chmod(temp, 0o755)
	for _, s := range list {
		if err == nil {
			err = s.make(temp)
		}
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("making mount stubs: %w", err), os.RemoveAll(temp))
	}
	return temp, nil
}

// make makes s below base, to which only this package writes. If the image lacks a parent of the
// target, the process sees the stub's parent, so chmod sets the modes independently of the caller's
// umask. If a file is in place of a directory, the lookup of the target reports that later.
func (s stub) make(base string) error {
	dir := base
	names := strings.Split(strings.Trim(s.path, "/"), "/")
	if !s.dir {
		names = names[:len(names)-1]
	}
	for _, name := range names {
		dir = filepath.Join(dir, name)
		err := os.Mkdir(dir, 0o755)
		if err == nil {
			err = os.Chmod(dir, 0o755)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}

	if s.dir {
		return nil
	}

	f, err := os.OpenFile(filepath.Join(base, s.path), os.O_CREATE|os.O_RDONLY, 0o644)
	if err != nil {
		return err
	}

	return errors.Join(f.Chmod(0o644), f.Close())
}

// stubsOnTop returns a new directory with stubs for the targets that do not resolve in the image,
// at the paths to which the image's symbolic links lead. The directory becomes the topmost layer.
// It repeats the image's directories on the way, with their attributes: in an overlay the topmost
// attributes count.
func (c Config) stubsOnTop() (_ string, err error) {
	list, err := c.targets()
	if err != nil {
		return "", err
	}

	lowest, err := c.stubs()
	if err != nil {
		return "", err
	}

	lowers := append([]string{c.Root.Upper}, c.Root.Lowers...)
	root, err := overlay.Open(overlay.Mount{Lowers: append(lowers, lowest), Trusted: c.Root.Trusted, Classic: c.Root.Classic})
	if err != nil {
		return "", err
	}
	defer root.Close()

	temp, err := os.MkdirTemp(c.Stubs, "targets-")
	if err != nil {
		return "", fmt.Errorf("making mount stubs: %w", err)
	}

	if err = copyAttributes(int(root.Fd()), temp); err == nil {
		for _, s := range list {
			if err = s.makeOnTop(root, temp); err != nil {
				err = fmt.Errorf("making a mount stub for %s: %w", s.path, err)
				break
			}
		}
	}
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(temp))
	}

	return temp, nil
}

// makeOnTop makes s below top unless the target exists in root.
func (s stub) makeOnTop(root *os.File, top string) error {
	existing, missing, err := resolve(root, s.path)
	if err != nil || missing == "" {
		return err
	}

	dir := top
	for i, name := range strings.Split(existing, "/") {
		if i == 0 {
			continue
		}

		dir = filepath.Join(dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}

		parts := strings.Split(existing, "/")[:i+1]
		fd, err := openInRoot(root, strings.Join(parts, "/"), unix.O_PATH|unix.O_NOFOLLOW)
		if err != nil {
			return err
		}

		err = copyAttributes(fd, dir)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}

	return stub{missing, s.dir}.make(dir)
}

func openInRoot(root *os.File, name string, flags uint64) (int, error) {
	how := &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV}
	fd, err := unix.Openat2(int(root.Fd()), path.Clean("/"+name), how)
	if err != nil {
		return -1, &os.PathError{Op: "opening in the image", Path: name, Err: err}
	}
	return fd, nil
}

// resolve follows file in root as a process with that root would. It returns the part that exists,
// without symbolic links, and the rest that is missing. Nobody may change root meanwhile.
func resolve(root *os.File, file string) (existing, missing string, err error) {
	rest := strings.Split(strings.Trim(file, "/"), "/")
	here := "" // no link, "" is the root
	for links := 0; len(rest) > 0; {
		name := rest[0]
		switch name {
		case "", ".":
			rest = rest[1:]
			continue
		case "..":
			here = strings.TrimSuffix(path.Dir("/"+here), "/")
			rest = rest[1:]
			continue
		}

		fd, err := openInRoot(root, here+"/"+name, unix.O_PATH|unix.O_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) {
			return here, strings.Join(rest, "/"), nil
		}
		if err != nil {
			return "", "", err
		}

		target, err := readlink(fd)
		unix.Close(fd)
		if err != nil {
			return "", "", err
		}

		rest = rest[1:]
		if target == "" {
			here += "/" + name
			continue
		}
		if links++; links > 40 {
			return "", "", fmt.Errorf("%s: %w", file, unix.ELOOP)
		}

		if strings.HasPrefix(target, "/") {
			here = ""
		}
		rest = append(strings.Split(target, "/"), rest...)
	}

	return here, "", nil
}

// readlink returns the target of the symbolic link fd; empty if fd is another type of file.
func readlink(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		return "", nil
	}
	if err != nil {
		return "", os.NewSyscallError("readlinkat", err)
	}
	return string(buf[:n]), nil
}

// copyAttributes gives dir the owner, mode and times of the directory fd.
func copyAttributes(fd int, dir string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	return errors.Join(
		os.Lchown(dir, int(st.Uid), int(st.Gid)),
		unix.Chmod(dir, st.Mode&0o7777),
		unix.UtimesNanoAt(unix.AT_FDCWD, dir, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW),
	)
}
