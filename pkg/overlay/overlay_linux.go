// Package overlay mounts overlay file systems without a mount point. An overlay shows lower
// directories, such as the layers of an image, as one directory, and collects changes in an upper
// directory.
//
// [Open] makes a mount that is attached nowhere and returns its root directory. Nothing has to be
// unmounted: the mount goes away when the root directory and all files that were opened below it
// are closed.
//
//	root, err := overlay.Open(overlay.Mount{
//		Lowers: []string{"/layers/2", "/layers/1"}, // topmost first
//		Upper:  "/build/upper",
//		Work:   "/build/work",
//	})
//	defer root.Close()
//	names, err := root.Readdirnames(-1)
//
// [Detach] returns the mount itself, for move_mount(2) into another mount namespace. [Probe]
// reports whether overlays work below a directory, and the reason and the remedy if they do not.
//
// # Requirements and limits
//
// The caller needs CAP_SYS_ADMIN in a user namespace and a mount namespace of its own (see package
// userns). The package uses:
//
//   - Linux 5.11, for overlays in a user namespace and for the mount option userxattr. Mounts always
//     have this option unless Mount.Trusted is set: without it the mount succeeds, but a directory
//     that replaces a whiteout fails with EIO.
//   - Linux 5.12, for mount_setattr(2), if there is one lower directory and no upper directory.
//   - Linux 6.7, for one mount option lowerdir+ per lower directory. On older kernels the package
//     uses mount(2) with descriptors instead of paths, so that 500 lower directories fit into the
//     page that the kernel allows for options.
//
// The upper directory cannot be on an overlay, on NFS, or on a file system without extended
// attributes. A mount has at most [MaxLowers] lower directories. All mounts have nodev, so device
// nodes of layers cannot be opened: in a user namespace the kernel does not allow them in any case,
// but real root could open a disk of the host through a device node of a layer.
//
// The package does not promise an upper directory that is usable as a layer: the directory can hold
// whiteouts and attributes of overlayfs, which package commit translates.
//
// The package is at v0: its API can change with each minor version.
//
// Source: Documentation/filesystems/overlayfs.rst of Linux, mount_setattr(2), open_tree(2).
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

// MaxLowers is the largest number of lower directories that the kernel allows: OVL_MAX_STACK of
// fs/overlayfs/params.h.
const MaxLowers = 500

// Mount describes an overlay.
type Mount struct {
	// Lowers holds the lower directories, topmost first, as absolute paths. A path can be
	// /proc/self/fd/N of a descriptor that stays open until the mount is made. Lowers has at least
	// one and at most MaxLowers directories.
	Lowers []string
	// Upper is the directory for changes. Empty: the mount is read-only. A read-only mount with one
	// lower directory is a bind mount of that directory.
	Upper string
	// Work is an empty directory on the file system of Upper. Empty if Upper is empty.
	Work string
	// Volatile says that Upper is deleted after use: unmounting does not sync its file system
	// (Linux 5.10).
	Volatile bool
	// Trusted stores the attributes of overlayfs as trusted.overlay.*, which needs root of the
	// initial user namespace. False: user.overlay.*.
	Trusted bool
	// Classic uses mount(2) even if the kernel supports lowerdir+. It is for tests.
	Classic bool
}

// Validate returns an error if m cannot be mounted on any kernel. Open and Detach call Validate.
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

// program adds the system calls for the mount to p. The returned register holds the root of the
// mount, which is attached nowhere.
func (m Mount) program(p *program.Program) program.Reg {
	if m.Upper == "" && len(m.Lowers) == 1 {
		return m.single(p)
	}
	return m.modern(p)
}

// single binds the only lower directory, read-only and without devices.
func (m Mount) single(p *program.Program) program.Reg {
	root := p.Reg()
	p.Do("opening "+m.Lowers[0], unix.SYS_OPEN_TREE, unix.AT_FDCWD, m.Lowers[0],
		unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE).Into(root)
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV}
	p.Do("making "+m.Lowers[0]+" read-only", unix.SYS_MOUNT_SETATTR, root, "",
		unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, program.Pointer(attr), unix.MOUNT_ATTR_SIZE_VER0)
	return root
}

// modern uses fsopen(2) with one option per lower directory.
func (m Mount) modern(p *program.Program) program.Reg {
	fs := p.Reg()
	root := p.Reg()
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
	p.Do(m.describe(), unix.SYS_FSCONFIG, fs, unix.FSCONFIG_CMD_CREATE, 0, 0, 0)
	p.Do(m.describe(), unix.SYS_FSMOUNT, fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NODEV).Into(root)

	return root
}

// describe names the mount in errors.
func (m Mount) describe() string {
	if m.Upper == "" {
		return fmt.Sprintf("mounting an overlay of %d layers", len(m.Lowers))
	}
	return fmt.Sprintf("mounting an overlay of %d layers on %s", len(m.Lowers), m.Upper)
}

// classic uses mount(2). It attaches the overlay on top of the root of the mount namespace, where
// only the path "/.." leads to the overlay, opens the overlay and detaches it. The caller holds the
// lock attached, because two calls at a time would open each other's overlay.
func (m Mount) classic(p *program.Program) (program.Reg, error) {
	if err := m.classicAtRoot(p); err != nil {
		return 0, err
	}
	root := p.Reg()

	// "/.." enters the mount on top of the root; "/" does not.
	p.Do("opening the overlay", unix.SYS_OPEN_TREE, unix.AT_FDCWD, "/..",
		unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC).Into(root)
	p.Do("detaching the overlay", unix.SYS_UMOUNT2, "/..", unix.MNT_DETACH)
	return root, nil
}

// classicAtRoot mounts with mount(2). All options must fit into a page, so the directories are the
// numbers of their descriptors, as paths relative to /proc/self/fd.
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
		return fmt.Errorf("mounting an overlay: the options for %d layers take %d bytes, the kernel takes one page",
			len(m.Lowers), len(options))
	}

	p.Do("entering /proc/self/fd", unix.SYS_CHDIR, "/proc/self/fd")
	p.Do(m.describe(), unix.SYS_MOUNT, "overlay", "/", "overlay", unix.MS_NODEV, options)

	return nil
}

// hasAppend tries once whether overlayfs supports the option lowerdir+ (Linux 6.7). Before Linux
// 6.5 fsconfig(2) accepted any option, because overlayfs read its options at the mount: a kernel
// that accepts an unknown option does not support lowerdir+.
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

// runAside runs p, which changes the working directory, on a thread with its own working directory.
// The goroutine never unlocks the thread, so that the thread ends with the goroutine.
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

// isClassic reports whether m is mounted with mount(2).
func (m Mount) isClassic() bool {
	if m.Upper == "" && len(m.Lowers) == 1 {
		return false // a bind mount
	}
	return m.Classic || !hasAppend()
}
