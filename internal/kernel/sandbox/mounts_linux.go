package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/program"
)

// Names of operations whose failures are recognised.
const (
	whatTarget     = "finding the place for a mount in the image: "
	whatProcFresh  = "mounting a /proc of its own"
	whatProcSubset = "mounting a /proc of its own with subset=pid"
)

// isTarget reports whether an operation is the lookup of a mount's target.
func isTarget(what string) bool { return strings.HasPrefix(what, whatTarget) }

// mount adds the operations for one mount of the description.
func (t *tree) mount(m specs.Mount) error {
	dest := path.Clean(m.Destination)
	if !path.IsAbs(dest) || dest == "/" || strings.ContainsRune(dest, 0) {
		return errors.New("the destination is not an absolute path below /")
	}

	fsType := m.Type
	if isBind(m) {
		fsType = "bind"
	}
	options, err := parseOptions(fsType, m.Options)
	if err != nil {
		return err
	}

	if fsType != "devpts" { // only the kernel makes nodes there
		options.set |= unix.MOUNT_ATTR_NODEV
		options.clear &^= unix.MOUNT_ATTR_NODEV
	}

	isDir := true
	var source program.Reg
	switch fsType {
	case "bind":
		source, isDir, err = t.bindSource(m, options)
	case "proc":
		source = t.proc(options)
	case "sysfs":
		source = t.sys(options)
	case "tmpfs", "mqueue":
		source = t.p.Reg()
		t.newFS(fsType, dest, options, source)
	case "devpts":
		source = t.devpts(dest, options)
	default:
		err = fmt.Errorf("file system %q is not supported", fsType)
	}
	if err != nil {
		return err
	}

	target, err := t.target(dest, isDir)
	if err != nil {
		return err
	}

	t.attach(dest, source, target)
	t.mounts = append(t.mounts, mounted{dest, fsType, source})
	if dest == "/dev" && fsType == "tmpfs" {
		t.devices(source)
	}

	return nil
}

func isBind(m specs.Mount) bool {
	for _, o := range m.Options {
		if o == "bind" || o == "rbind" {
			return true
		}
	}
	return m.Type == "bind"
}

func (t *tree) attach(dest string, source, target program.Reg) {
	t.do("mounting at "+dest, unix.SYS_MOVE_MOUNT, source, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// target returns the register of a descriptor of dest. In the image, the lookup follows symbolic
// links as a process in the image would, and the target must be on the root file system itself: a
// link of an image can lead into another mount, for example /proc, or try to lead out of the image.
func (t *tree) target(dest string, isDir bool) (program.Reg, error) {
	reg := t.p.Reg()
	how := &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}

	if isDir {
		how.Flags |= unix.O_DIRECTORY
	}
	if slices.Contains([]string{"/proc", "/dev", "/sys"}, dest) {
		how.Resolve |= unix.RESOLVE_NO_SYMLINKS // otherwise the masked paths below could be elsewhere
	}
	at, rel, under := t.root, dest, ""
	for _, m := range t.mounts {
		if dest == m.dest {
			return m.root, nil
		}
		if rest, ok := strings.CutPrefix(dest, m.dest+"/"); ok {
			at, rel, under = m.root, rest, m.fsType
		}
	}

	switch under {
	case "":
	case "tmpfs": // new and empty: it has no symbolic links
		t.makeTarget(at, rel, isDir, reg)
		return reg, nil
	case "bind":
		how.Resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV
	default:
		return 0, fmt.Errorf("nothing can be mounted below a mount of type %s", under)
	}

	t.do(whatTarget+dest, unix.SYS_OPENAT2, at, rel, program.Pointer(how), unix.SizeofOpenHow).Into(reg)

	return reg, nil
}

// makeTarget makes the target rel in a new tmpfs, with its parents.
func (t *tree) makeTarget(at program.Reg, rel string, isDir bool, reg program.Reg) {
	what := "making " + rel
	for i, r := range rel {
		if r == '/' {
			t.do(what, unix.SYS_MKDIRAT, at, rel[:i], 0o755).Tolerate(unix.EEXIST)
		}
	}

	if isDir {
		t.do(what, unix.SYS_MKDIRAT, at, rel, 0o755).Tolerate(unix.EEXIST)
		t.do(what, unix.SYS_OPENAT, at, rel, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0).Into(reg)
		return
	}
	t.do(what, unix.SYS_OPENAT, at, rel, unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644).Into(reg)
}

// bindSource clones the source of a bind mount in the caller: the child could not clone a mount of
// another mount namespace. It returns the detached mount.
func (t *tree) bindSource(m specs.Mount, o mountOptions) (_ program.Reg, isDir bool, err error) {
	from := t.c.Sources[m.Destination]
	if from == nil {
		fd, err := unix.Open(m.Source, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, false, &os.PathError{Op: "opening the source", Path: m.Source, Err: err}
		}
		from = os.NewFile(uintptr(fd), m.Source)
		defer from.Close()
	}

	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return 0, false, &os.PathError{Op: "examining the source", Path: from.Name(), Err: err}
	}

	fd, err := unix.OpenTree(int(from.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_EMPTY_PATH)
	if err != nil {
		return 0, false, &os.PathError{Op: "cloning the source", Path: from.Name(), Err: err}
	}

	clone := os.NewFile(uintptr(fd), from.Name())
	t.files = append(t.files, clone)
	attr := &unix.MountAttr{Attr_set: o.set, Attr_clr: o.clear &^ unix.MOUNT_ATTR_RDONLY}
	if o.device {
		if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFCHR && kind != unix.S_IFBLK {
			return 0, false, fmt.Errorf("%s: mount option dev needs a device node", from.Name())
		}
		attr.Attr_set &^= unix.MOUNT_ATTR_NODEV
	}

	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, attr); err != nil {
		return 0, false, &os.PathError{Op: "setting the mount attributes", Path: from.Name(), Err: err}
	}

	reg := t.p.Reg()
	t.do("taking over "+from.Name(), unix.SYS_FCNTL, clone, unix.F_DUPFD_CLOEXEC, 3).Into(reg)

	return reg, st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// newFS makes a new file system of a type and puts its detached mount into mnt.
func (t *tree) newFS(fsType, dest string, o mountOptions, mnt program.Reg) {
	fs := t.p.Reg()
	what := "mounting " + fsType + " at " + dest
	t.do(what, unix.SYS_FSOPEN, fsType, unix.FSOPEN_CLOEXEC).Into(fs)
	for _, param := range o.params {
		key, value, ok := strings.Cut(param, "=")
		if ok {
			t.do(what+" with "+param, unix.SYS_FSCONFIG, fs, unix.FSCONFIG_SET_STRING, key, value, 0)
		} else {
			t.do(what+" with "+param, unix.SYS_FSCONFIG, fs, unix.FSCONFIG_SET_FLAG, key, 0, 0)
		}
	}

	t.do(what, unix.SYS_FSCONFIG, fs, unix.FSCONFIG_CMD_CREATE, 0, 0, 0)
	t.do(what, unix.SYS_FSMOUNT, fs, unix.FSMOUNT_CLOEXEC, uintptr(o.set)).Into(mnt)
}

// devpts makes a devpts. It drops gid=5 if that group is not mapped (EINVAL): terminals then belong
// to group 0.
func (t *tree) devpts(dest string, o mountOptions) program.Reg {
	var params []string
	for _, param := range o.params {
		if param == "gid=5" && !has(t.maps.gid, 5) {
			continue
		}
		params = append(params, param)
	}
	o.params = params
	mnt := t.p.Reg()
	t.newFS("devpts", dest, o, mnt)
	return mnt
}

// proc makes a procfs of the new PID namespace. The kernel refuses that where other mounts hide
// parts of the caller's /proc, as in most pods; the fallbacks are those of ProcAuto.
func (t *tree) proc(o mountOptions) program.Reg {
	mnt := t.p.Reg()
	end := t.p.Label()
	attempt := func(what string, params ...string) {
		fs, next := t.p.Reg(), t.p.Label()
		t.do(what, unix.SYS_FSOPEN, "proc", unix.FSOPEN_CLOEXEC).Into(fs)
		for _, param := range append(params, o.params...) {
			key, value, _ := strings.Cut(param, "=")
			t.do(what, unix.SYS_FSCONFIG, fs, unix.FSCONFIG_SET_STRING, key, value, 0)
		}
		t.do(what, unix.SYS_FSCONFIG, fs, unix.FSCONFIG_CMD_CREATE, 0, 0, 0).Tolerate(t.unlessForced()...).Note().Else(next)
		t.do(what, unix.SYS_FSMOUNT, fs, unix.FSMOUNT_CLOEXEC, uintptr(o.set)).Tolerate(t.unlessForced()...).Note().Into(mnt).Else(next).Then(end)
		t.p.Mark(next)
	}

	if t.c.Proc == ProcAuto || t.c.Proc == ProcFresh {
		attempt(whatProcFresh)
	}
	if t.c.Proc == ProcAuto || t.c.Proc == ProcSubset {
		attempt(whatProcSubset, "subset=pid")
	}

	// Read-only: a process could otherwise write to files of other processes of the same UID, for
	// example oom_score_adj.
	t.cloneTree("/proc", o.set|unix.MOUNT_ATTR_RDONLY, mnt)
	t.p.Mark(end)

	return mnt
}

// unlessForced returns the errors that mean that the host forbids a way to mount /proc. If
// Config.Proc forces the way, no error is tolerated.
func (t *tree) unlessForced() []unix.Errno {
	if t.c.Proc == ProcFresh || t.c.Proc == ProcSubset {
		return nil
	}
	return []unix.Errno{unix.EPERM, unix.EACCES}
}

// sys clones the caller's /sys. If the process has a network namespace, a new sysfs shows the
// interfaces of that namespace, where the kernel allows a new sysfs.
func (t *tree) sys(o mountOptions) program.Reg {
	mnt, bind, end := t.p.Reg(), t.p.Label(), t.p.Label()
	if t.c.Network != Host {
		fs := t.p.Reg()
		const what = "mounting sysfs"
		t.do(what, unix.SYS_FSOPEN, "sysfs", unix.FSOPEN_CLOEXEC).Into(fs)
		t.do(what, unix.SYS_FSCONFIG, fs, unix.FSCONFIG_SET_FLAG, "ro", 0, 0)
		t.do(what, unix.SYS_FSCONFIG, fs, unix.FSCONFIG_CMD_CREATE, 0, 0, 0).Tolerate(unix.EPERM, unix.EACCES).Else(bind)
		t.do(what, unix.SYS_FSMOUNT, fs, unix.FSMOUNT_CLOEXEC, uintptr(o.set)).Tolerate(unix.EPERM, unix.EACCES).Into(mnt).Else(bind).Then(end)
		t.p.Mark(bind)
	}

	t.cloneTree("/sys", o.set, mnt)
	t.p.Mark(end)
	return mnt
}

// cgroups mounts the view of the cgroup namespace at /sys/fs/cgroup, where programs look for their
// limits. If that fails, the caller's view remains. Both are read-only (CVE-2023-25809).
func (t *tree) cgroups() {
	sys := t.mounts[len(t.mounts)-1]
	fs, mnt, target, end := t.p.Reg(), t.p.Reg(), t.p.Reg(), t.p.Label()
	const what = "mounting cgroup2 at /sys/fs/cgroup"
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_DIRECTORY, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	t.do(what, unix.SYS_OPENAT2, sys.root, "fs/cgroup", program.Pointer(how), unix.SizeofOpenHow).Tolerate(unix.ENOENT).Into(target).Else(end)
	t.do(what, unix.SYS_FSOPEN, "cgroup2", unix.FSOPEN_CLOEXEC).Tolerate(unix.ENODEV, unix.EPERM).Into(fs).Else(end)
	t.do(what, unix.SYS_FSCONFIG, fs, unix.FSCONFIG_CMD_CREATE, 0, 0, 0).Tolerate(unix.EPERM, unix.EACCES, unix.EBUSY).Else(end)
	const attrs = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	t.do(what, unix.SYS_FSMOUNT, fs, unix.FSMOUNT_CLOEXEC, uintptr(attrs)).Tolerate(unix.EPERM, unix.EACCES).Into(mnt).Else(end)
	t.attach("/sys/fs/cgroup", mnt, target)
	t.p.Mark(end)
}

// cloneTree clones a mount of the caller with all mounts below it: the kernel does not reveal files
// that a mount of the parent namespace hides.
func (t *tree) cloneTree(dir string, attrs uint64, mnt program.Reg) {
	t.do("cloning "+dir, unix.SYS_OPEN_TREE, unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE).Into(mnt)
	attr := &unix.MountAttr{Attr_set: attrs}
	t.do("setting the attributes of "+dir, unix.SYS_MOUNT_SETATTR, mnt, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE,
		program.Pointer(attr), unix.MOUNT_ATTR_SIZE_VER0)
}
