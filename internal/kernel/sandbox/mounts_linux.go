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

// Names of operations that are recognised when they fail.
const (
	whatTarget     = "finding the place for a mount in the image: "
	whatProcFresh  = "mounting a /proc of its own"
	whatProcSubset = "mounting a /proc of its own with subset=pid"
)

// isTarget reports whether what is the lookup of a mount's target.
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

	if fsType != "devpts" { // the kernel alone makes nodes there
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

// target returns the register of a descriptor of the place where dest is. In the image it is
// looked up as a process in it would, and must be on the root file system itself: an image can
// have links there that lead into a mount, such as /proc, or try to lead out.
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
		how.Resolve |= unix.RESOLVE_NO_SYMLINKS // what is masked below them must be where it is thought to be
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
	case "tmpfs": // new and empty: no link to fear
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

// makeTarget makes rel below a tmpfs of ours, and what leads there.
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

// bindSource clones the source of a bind mount in this process: the child could not clone what
// lies in another mount namespace. It returns the detached mount.
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

// newFS makes a new file system of the given type, attached nowhere, and puts its mount into mnt.
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

// devpts drops gid=5 where that group is not mapped (EINVAL): terminals then belong to group 0.
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

// proc mounts a procfs of the new PID namespace. Where the caller's is partly hidden by other
// mounts, as in most pods, the kernel refuses that.
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

	// Read-only: what a process owns below its directory, oom_score_adj say, could be written by another of the same uid.
	t.cloneTree("/proc", o.set|unix.MOUNT_ATTR_RDONLY, mnt)
	t.p.Mark(end)

	return mnt
}

// unlessForced returns the errors that mean that a kind of mount is not allowed here.
func (t *tree) unlessForced() []unix.Errno {
	if t.c.Proc == ProcFresh || t.c.Proc == ProcSubset {
		return nil
	}
	return []unix.Errno{unix.EPERM, unix.EACCES}
}

// sys shows the caller's /sys, unless the process has a network of its own: then a new sysfs
// shows its interfaces, where the kernel allows one.
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

// cgroups mounts what the cgroup namespace shows at /sys/fs/cgroup, where programs look for their limits. What cannot be
// mounted leaves the caller's there. Neither can be written to (CVE-2023-25809).
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

// cloneTree clones a mount of the caller with all that is mounted below it: the kernel does not
// let go of what a parent namespace has hidden.
func (t *tree) cloneTree(dir string, attrs uint64, mnt program.Reg) {
	t.do("cloning "+dir, unix.SYS_OPEN_TREE, unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE).Into(mnt)
	attr := &unix.MountAttr{Attr_set: attrs}
	t.do("setting the attributes of "+dir, unix.SYS_MOUNT_SETATTR, mnt, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE,
		program.Pointer(attr), unix.MOUNT_ATTR_SIZE_VER0)
}
