package sandbox

import (
	"os"
	"path"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/program"
)

// devices fills a tmpfs mounted at /dev with the usual device nodes and links. The nodes are bind
// mounts of the caller's nodes, because a user namespace may not make nodes. The mounts are
// read-only; a process can still write to the devices. On a writable mount, root of the process
// could change the modes of the caller's nodes if it owns them, in a pod for example. A standard
// stream would give the same access, so unset streams are the null of this /dev.
func (t *tree) devices(dev program.Reg) {
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		node, place := t.p.Reg(), t.p.Reg()
		what := "binding /dev/" + name
		t.do(what, unix.SYS_OPEN_TREE, unix.AT_FDCWD, "/dev/"+name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC).Into(node)
		t.protect(what, node)
		t.do(what, unix.SYS_OPENAT, dev, name, unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o666).Into(place)
		t.attach("/dev/"+name, node, place)
	}

	for i, f := range []*os.File{t.c.Stdin, t.c.Stdout, t.c.Stderr} {
		if f == nil {
			null := t.p.Reg()
			t.do("opening /dev/null of the sandbox", unix.SYS_OPENAT, dev, "null", unix.O_RDWR|unix.O_CLOEXEC, 0).Into(null)
			t.do("setting up the standard streams", unix.SYS_DUP3, null, i, 0)
		}
	}

	for _, link := range [][2]string{
		{"/proc/self/fd", "fd"},
		{"/proc/self/fd/0", "stdin"},
		{"/proc/self/fd/1", "stdout"},
		{"/proc/self/fd/2", "stderr"},
		{"pts/ptmx", "ptmx"},
		{"/proc/kcore", "core"},
	} {
		t.do("linking /dev/"+link[1], unix.SYS_SYMLINKAT, link[0], dev, link[1])
	}
}

// protect makes the detached mount of a caller's device read-only.
func (t *tree) protect(what string, node program.Reg) {
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC}
	t.do(what, unix.SYS_MOUNT_SETATTR, node, "", unix.AT_EMPTY_PATH, program.Pointer(attr), unix.MOUNT_ATTR_SIZE_VER0)
}

// paths hides the masked paths and makes the read-only paths read-only. Each path is looked up from
// the root of its mount.
func (t *tree) paths() {
	if len(t.c.Spec.Linux.MaskedPaths) > 0 {
		t.nullDevice()
	}
	for _, p := range t.c.Spec.Linux.MaskedPaths {
		t.mask(path.Clean(p))
	}
	for _, p := range t.c.Spec.Linux.ReadonlyPaths {
		t.readonly(path.Clean(p))
	}
}

// nullDevice opens the caller's /dev/null and verifies the device number (CVE-2025-31133).
func (t *tree) nullDevice() {
	const what = "verifying /dev/null"
	t.null = t.p.Reg()
	t.do(what, unix.SYS_OPENAT, unix.AT_FDCWD, "/dev/null", unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0).Into(t.null)
	st := new(unix.Statx_t)
	t.do(what, unix.SYS_STATX, t.null, "", unix.AT_EMPTY_PATH, unix.STATX_TYPE, program.Pointer(st))
	mode := (*uint32)(unsafe.Pointer(&st.Mode)) // with two spare bytes behind it
	t.p.Check(what, mode, unix.S_IFMT, unix.S_IFCHR, unix.ENXIO)
	t.p.Check(what, &st.Rdev_major, ^uint32(0), 1, unix.ENXIO)
	t.p.Check(what, &st.Rdev_minor, ^uint32(0), 3, unix.ENXIO)
	t.p.Keep(st)
}

const whatInside = "finding what is to be hidden or read-only: "

// inside opens a path to mask or to make read-only, or jumps to missing. In a mount of the set-up
// the lookup follows no symbolic link; in the image the lookup follows links within the image's
// root.
func (t *tree) inside(p string, missing program.Label) program.Reg {
	at, rel := t.root, p
	how := &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}

	for _, m := range t.mounts {
		if rest, ok := strings.CutPrefix(p, m.dest+"/"); ok {
			at, rel = m.root, rest
			how.Resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS
		}
	}

	reg := t.p.Reg()
	t.do(whatInside+p, unix.SYS_OPENAT2, at, rel, program.Pointer(how), unix.SizeofOpenHow).
		Into(reg).Tolerate(unix.ENOENT, unix.ENOTDIR, unix.EACCES).Else(missing)
	return reg
}

// mask hides a file behind /dev/null, and a directory behind an empty directory.
func (t *tree) mask(p string) {
	end, dir := t.p.Label(), t.p.Label()
	what := "masking " + p
	target := t.inside(p, end)
	cover := t.p.Reg()
	t.do(what, unix.SYS_OPEN_TREE, t.null, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH).Into(cover)
	t.protect(what, cover)
	t.do(what, unix.SYS_MOVE_MOUNT, cover, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH).
		Tolerate(unix.EINVAL, unix.ENOTDIR).Else(dir).Then(end) // a file over a directory
	t.p.Mark(dir)
	t.newFS("tmpfs", p, mountOptions{set: coverAttributes}, cover)
	t.attach(p, cover, target)
	t.p.Mark(end)
}

// readonly binds a path onto itself, read-only with all mounts below it.
func (t *tree) readonly(p string) {
	end := t.p.Label()
	what := "making " + p + " read-only"
	target := t.inside(p, end)
	clone := t.p.Reg()
	t.do(what, unix.SYS_OPEN_TREE, target, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE).Into(clone)
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}
	t.do(what, unix.SYS_MOUNT_SETATTR, clone, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, program.Pointer(attr), unix.MOUNT_ATTR_SIZE_VER0)
	t.attach(p, clone, target)
	t.p.Mark(end)
}

// hideCaller covers the directories of the caller and of its ancestors in a /proc that is bound
// from the caller: everybody can read command lines, and the command lines of these processes may
// hold credentials. In a /proc of the new PID namespace the caller's PID leads nowhere, because the
// child has started no process yet.
func (t *tree) hideCaller() error {
	self, err := fdfs.ProcSelf()
	if err != nil {
		return err
	}
	if self == "/proc/"+strconv.Itoa(os.Getpid()) && t.c.Proc != ProcBind {
		return nil // the caller has a /proc of its PID namespace, so the child can mount one, too
	}

	pids, err := fdfs.Ancestry()
	if err != nil {
		return err
	}

	for _, m := range t.mounts {
		if m.fsType == "proc" {
			t.hide(m.root, pids)
		}
	}

	return nil
}

// hide covers directories of processes. If the first directory is missing, the /proc is another PID
// namespace's.
func (t *tree) hide(proc program.Reg, pids []string) {
	end := t.p.Label()
	for i, pid := range pids {
		dir, cover, next := t.p.Reg(), t.p.Reg(), t.p.Label()
		missing := next
		if i == 0 {
			missing = end
		}
		t.do("finding process "+pid, unix.SYS_OPENAT, proc, pid, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0).
			Into(dir).Tolerate(unix.ENOENT).Else(missing)
		t.newFS("tmpfs", "/proc/"+pid, mountOptions{set: coverAttributes}, cover)
		t.attach("/proc/"+pid, cover, dir)
		t.p.Mark(next)
	}

	t.p.Mark(end)
}

// coverAttributes are the mount attributes of an empty file system that hides a directory.
const coverAttributes = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC
