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

// devices fills a tmpfs mounted at /dev with the device nodes that every container has, bound
// from the caller's (a user namespace may not make nodes), and the customary links. The mounts are
// read-only, which devices can be written to on all the same: where root of the process owns the
// caller's nodes, in a pod for instance, it could change their mode otherwise. So could it by way
// of a standard stream, which therefore is this /dev's null.
func (g *compiler) devices(dev program.Reg) {
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		node, place := g.p.Reg(), g.p.Reg()
		what := "binding /dev/" + name
		g.do(what, unix.SYS_OPEN_TREE, unix.AT_FDCWD, "/dev/"+name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC).Into(node)
		g.protect(what, node)
		g.do(what, unix.SYS_OPENAT, dev, name, unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o666).Into(place)
		g.attach("/dev/"+name, node, place)
	}

	for i, f := range []*os.File{g.c.Stdin, g.c.Stdout, g.c.Stderr} {
		if f == nil {
			null := g.p.Reg()
			g.do("opening /dev/null of the sandbox", unix.SYS_OPENAT, dev, "null", unix.O_RDWR|unix.O_CLOEXEC, 0).Into(null)
			g.do("setting up the standard streams", unix.SYS_DUP3, null, i, 0)
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
		g.do("linking /dev/"+link[1], unix.SYS_SYMLINKAT, link[0], dev, link[1])
	}
}

// protect makes the mount of a device of the caller's read-only, before it is attached.
func (g *compiler) protect(what string, node program.Reg) {
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC}
	g.do(what, unix.SYS_MOUNT_SETATTR, node, "", unix.AT_EMPTY_PATH, program.Pointer(attr), unix.MOUNT_ATTR_SIZE_VER0)
}

// paths masks files and makes paths read-only, each relative to the mount that it is in.
func (g *compiler) paths() {
	if len(g.c.Spec.Linux.MaskedPaths) > 0 {
		g.nullDevice()
	}
	for _, p := range g.c.Spec.Linux.MaskedPaths {
		g.mask(path.Clean(p))
	}
	for _, p := range g.c.Spec.Linux.ReadonlyPaths {
		g.readonly(path.Clean(p))
	}
}

// nullDevice opens /dev/null of the caller and makes sure that it is that device (CVE-2025-31133).
func (g *compiler) nullDevice() {
	const what = "verifying /dev/null"
	g.null = g.p.Reg()
	g.do(what, unix.SYS_OPENAT, unix.AT_FDCWD, "/dev/null", unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0).Into(g.null)
	st := new(unix.Statx_t)
	g.do(what, unix.SYS_STATX, g.null, "", unix.AT_EMPTY_PATH, unix.STATX_TYPE, program.Pointer(st))
	mode := (*uint32)(unsafe.Pointer(&st.Mode)) // with two spare bytes behind it
	g.p.Check(what, mode, unix.S_IFMT, unix.S_IFCHR, unix.ENXIO)
	g.p.Check(what, &st.Rdev_major, ^uint32(0), 1, unix.ENXIO)
	g.p.Check(what, &st.Rdev_minor, ^uint32(0), 3, unix.ENXIO)
	g.p.Keep(st)
}

const whatInside = "finding what is to be hidden or read-only: "

// inside opens a path that is to be masked or made read-only, or goes to missing. In a file
// system of the kernel's it is taken literally; in the image it is looked up in its root.
func (g *compiler) inside(p string, missing program.Label) program.Reg {
	at, rel := g.root, p
	how := &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}

	for _, m := range g.mounts {
		if rest, ok := strings.CutPrefix(p, m.dest+"/"); ok {
			at, rel = m.root, rest
			how.Resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS
		}
	}

	reg := g.p.Reg()
	g.do(whatInside+p, unix.SYS_OPENAT2, at, rel, program.Pointer(how), unix.SizeofOpenHow).
		Into(reg).Tolerate(unix.ENOENT, unix.ENOTDIR, unix.EACCES).Else(missing)
	return reg
}

// mask hides a file behind /dev/null and a directory behind an empty one.
func (g *compiler) mask(p string) {
	end, dir := g.p.Label(), g.p.Label()
	what := "masking " + p
	target := g.inside(p, end)
	cover := g.p.Reg()
	g.do(what, unix.SYS_OPEN_TREE, g.null, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH).Into(cover)
	g.protect(what, cover)
	g.do(what, unix.SYS_MOVE_MOUNT, cover, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH).
		Tolerate(unix.EINVAL, unix.ENOTDIR).Else(dir).Then(end) // a file over a directory
	g.p.Mark(dir)
	g.newFS("tmpfs", p, mountOptions{set: coverAttributes}, cover)
	g.attach(p, cover, target)
	g.p.Mark(end)
}

// readonly binds a path onto itself, read-only with all that is mounted below it.
func (g *compiler) readonly(p string) {
	end := g.p.Label()
	what := "making " + p + " read-only"
	target := g.inside(p, end)
	tree := g.p.Reg()
	g.do(what, unix.SYS_OPEN_TREE, target, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE).Into(tree)
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}
	g.do(what, unix.SYS_MOUNT_SETATTR, tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, program.Pointer(attr), unix.MOUNT_ATTR_SIZE_VER0)
	g.attach(p, tree, target)
	g.p.Mark(end)
}

// hideCaller covers the directories of this process, and of those that it descends from, in a /proc that is bound from the
// caller: command lines are for everybody to read, and theirs may hold credentials. The child has not started anything yet, so
// that in a /proc of its own the caller's pid leads nowhere.
func (g *compiler) hideCaller() error {
	self, err := fdfs.ProcSelf()
	if err != nil {
		return err
	}
	if self == "/proc/"+strconv.Itoa(os.Getpid()) && g.c.Proc != ProcBind {
		return nil // a /proc of the caller's PID namespace can be mounted: so can one of the child's
	}

	pids, err := fdfs.Ancestry()
	if err != nil {
		return err
	}

	for _, m := range g.mounts {
		if m.fsType == "proc" {
			g.hide(m.root, pids)
		}
	}

	return nil
}

// hide covers directories of processes, unless the first is not there.
func (g *compiler) hide(proc program.Reg, pids []string) {
	end := g.p.Label()
	for i, pid := range pids {
		dir, cover, next := g.p.Reg(), g.p.Reg(), g.p.Label()
		missing := next
		if i == 0 {
			missing = end
		}
		g.do("finding process "+pid, unix.SYS_OPENAT, proc, pid, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0).
			Into(dir).Tolerate(unix.ENOENT).Else(missing)
		g.newFS("tmpfs", "/proc/"+pid, mountOptions{set: coverAttributes}, cover)
		g.attach("/proc/"+pid, cover, dir)
		g.p.Mark(next)
	}

	g.p.Mark(end)
}

// coverAttributes are those of an empty file system that hides a directory.
const coverAttributes = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC
