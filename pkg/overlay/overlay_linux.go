// Package overlay mounts overlay file systems: lower directories, and an upper one for the changes.
//
// A [Mount] is opened as a directory that nothing else leads to ([Open]), or made to be attached
// elsewhere ([Detach]): a RUN's process takes it into its own mount namespace, whose end unmounts
// it for free. There is never anything to unmount. Both use the mount API of Linux 5.2 with one lowerdir+ per layer (6.7); older kernels get mount(2) with one line of options
// that names the layers by descriptor, so that 500 of them fit into the page the kernel allows.
//
// In a user namespace overlayfs keeps its marks in user.overlay.* attributes (userxattr, 5.11).
// Without that option the mount succeeds and a directory made over a whiteout fails later with
// EIO, so it is always given. The upper directory cannot be on an overlay or on NFS; [Probe] tells.
//
// Every mount has nodev: device nodes of layers cannot be opened through it. In a user namespace the kernel sees to that;
// real root could open a disk of the host through a node that a layer brings.
//
// Source: Documentation/filesystems/overlayfs.rst of Linux; mount_setattr(2), open_tree(2).
package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/program"
)

// MaxLowers is how many lower directories the kernel takes (OVL_MAX_STACK).
const MaxLowers = 500

// Mount describes one overlay.
type Mount struct {
	// Lowers are the layers, topmost first: absolute paths, or /proc/self/fd/N of a descriptor
	// that is open while the mount is made. At least one, at most MaxLowers.
	Lowers []string
	// Upper receives the changes and Work is an empty directory beside it on the same file
	// system. Both empty: a read-only mount; with one lower that is the directory itself.
	Upper, Work string
	// Volatile is for an upper directory that is thrown away afterwards: unmounting does not sync its file system (5.10).
	Volatile bool
	// Trusted uses trusted.overlay.* attributes, as root of the first user namespace may.
	Trusted bool
	// Classic uses mount(2) although the kernel has the newer calls.
	Classic bool
}

// Validate reports what is wrong with m before any system call is made.
func (m Mount) Validate() error {
	switch {
	case len(m.Lowers) == 0:
		return errors.New("mounting an overlay: no lower directory")
	case len(m.Lowers) > MaxLowers:
		return fmt.Errorf("mounting an overlay: %d layers, the kernel takes %d at most", len(m.Lowers), MaxLowers)
	case (m.Upper == "") != (m.Work == ""):
		return errors.New("mounting an overlay: upper and work directory go together")
	}

	for _, dir := range m.dirs() {
		if !filepath.IsAbs(dir) || strings.ContainsRune(dir, 0) {
			return fmt.Errorf("mounting an overlay: %q is not an absolute path", dir)
		}
	}

	return nil
}

func (m Mount) dirs() []string {
	dirs := append([]string(nil), m.Lowers...)
	if m.Upper != "" {
		dirs = append(dirs, m.Upper, m.Work)
	}
	return dirs
}

// program adds the calls that make the mount to p and returns the register that holds its root:
// a descriptor of a mount that is not attached anywhere yet (move_mount(2)).
func (m Mount) program(p *program.Program) program.Reg {
	if m.Upper == "" && len(m.Lowers) == 1 {
		return m.single(p)
	}
	return m.modern(p)
}

// single clones the only directory, read-only and without devices.
func (m Mount) single(p *program.Program) program.Reg {
	root := p.Reg()
	p.Do("opening "+m.Lowers[0], unix.SYS_OPEN_TREE, unix.AT_FDCWD, m.Lowers[0],
		unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE).Into(root)
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV}
	p.Do("making "+m.Lowers[0]+" read-only", unix.SYS_MOUNT_SETATTR, root, "",
		unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, program.Pointer(attr), unix.MOUNT_ATTR_SIZE_VER0)
	return root
}

// modern uses fsopen(2), with one option per layer.
func (m Mount) modern(p *program.Program) program.Reg {
	fs, root := p.Reg(), p.Reg()
	p.Do("opening the overlay file system", unix.SYS_FSOPEN, "overlay", unix.FSOPEN_CLOEXEC).Into(fs)
	set := func(key, value string) {
		p.Do("overlay: "+key+" "+value, unix.SYS_FSCONFIG, fs, unix.FSCONFIG_SET_STRING, key, value, 0)
	}
	for _, lower := range m.Lowers {
		set("lowerdir+", lower)
	}
	if m.Upper != "" {
		set("upperdir", m.Upper)
		set("workdir", m.Work)
	}

	if m.Volatile {
		p.Do("overlay: volatile", unix.SYS_FSCONFIG, fs, unix.FSCONFIG_SET_FLAG, "volatile", 0, 0)
	}
	if !m.Trusted {
		p.Do("overlay: userxattr", unix.SYS_FSCONFIG, fs, unix.FSCONFIG_SET_FLAG, "userxattr", 0, 0)
	}
	what := m.what()
	p.Do(what, unix.SYS_FSCONFIG, fs, unix.FSCONFIG_CMD_CREATE, 0, 0, 0)
	p.Do(what, unix.SYS_FSMOUNT, fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NODEV).Into(root)

	return root
}

func (m Mount) what() string {
	if m.Upper == "" {
		return fmt.Sprintf("mounting an overlay of %d layers", len(m.Lowers))
	}
	return fmt.Sprintf("mounting an overlay of %d layers on %s", len(m.Lowers), m.Upper)
}

// classic uses mount(2), attaches the overlay on top of the root of the calling mount namespace,
// which nothing but its parent directory leads to, and takes it off again with its descriptor in
// hand. Two at a time would take each other's.
func (m Mount) classic(p *program.Program) (program.Reg, error) {
	if err := m.classicAtRoot(p); err != nil {
		return 0, err
	}
	root := p.Reg()

	// ".." of the root follows the mount on top of it; "/" alone does not.
	p.Do("opening the overlay", unix.SYS_OPEN_TREE, unix.AT_FDCWD, "/..", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC).Into(root)
	p.Do("detaching the overlay", unix.SYS_UMOUNT2, "/..", unix.MNT_DETACH)
	return root, nil
}

// classicAtRoot uses mount(2). All options must fit into a page, so the layers are given as the
// numbers of their descriptors, paths relative to /proc/self/fd.
func (m Mount) classicAtRoot(p *program.Program) error {
	names := make([]string, 0, len(m.Lowers)+2)
	for _, dir := range m.dirs() {
		f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("mounting an overlay: %w", err)
		}
		p.Own(f)
		names = append(names, strconv.Itoa(int(f.Fd())))
	}

	options := "lowerdir=" + strings.Join(names[:len(m.Lowers)], ":")
	if m.Upper != "" {
		options += ",upperdir=" + names[len(names)-2] + ",workdir=" + names[len(names)-1]
	}
	if m.Volatile {
		options += ",volatile"
	}
	if !m.Trusted {
		options += ",userxattr"
	}
	if len(options) >= os.Getpagesize() {
		return fmt.Errorf("mounting an overlay: the options for %d layers take %d bytes, the kernel takes one page", len(m.Lowers), len(options))
	}

	p.Do("entering /proc/self/fd", unix.SYS_CHDIR, "/proc/self/fd")
	p.Do(m.what(), unix.SYS_MOUNT, "overlay", "/", "overlay", unix.MS_NODEV, options)

	return nil
}

// hasAppend reports whether overlayfs knows lowerdir+, by trying it once. Linux 6.7 does. Before 6.5 overlayfs read its options
// when it was mounted, and fsconfig(2) took every name: a kernel that takes one which no overlayfs knows has not looked.
var hasAppend = sync.OnceValue(func() bool {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false
	}
	defer unix.Close(fs)
	if unix.FsconfigSetString(fs, "no-such-option", "/") == nil {
		return false
	}
	return unix.FsconfigSetString(fs, "lowerdir+", "/") == nil
})

// runAside runs p, which changes the working directory, on a thread with its own. The thread ends
// with its goroutine because it is never unlocked.
func runAside(p *program.Program) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			done <- os.NewSyscallError("unshare", err)
			return
		}
		done <- p.Run()
	}()
	return <-done
}

// isClassic reports whether m is to be mounted with mount(2).
func (m Mount) isClassic() bool {
	if m.Upper == "" && len(m.Lowers) == 1 {
		return false // no overlay at all
	}
	return m.Classic || !hasAppend()
}
