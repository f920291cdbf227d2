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
	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

// compiler turns a Config into a program of system calls. The program has three parts, and each
// part is a type:
//
//	compiler   leaves the caller's session, network and cgroup; sets up the standard streams
//	tree       builds the mounts of the process and makes them the root
//	launch     gives up users, groups and capabilities, and executes the program
type compiler struct {
	p     *program.Program
	c     Config
	maps  idMaps
	files []*os.File // used by the program; closed after the fork
}

// tree adds the operations for the file system of the process.
type tree struct {
	*compiler
	root   program.Reg // the root of the overlay
	null   program.Reg // a verified mount of /dev/null; set if a path is to be masked
	mounts []mounted   // in the order in which they are attached
}

// mounted is a mount that the program has attached so far.
type mounted struct {
	dest   string
	fsType string
	root   program.Reg
}

// launch adds the operations that turn the child into the process.
type launch struct {
	*compiler
	tree  *tree
	found []candidate // the files that may be the program to execute
}

// compile turns c into a program. targets is a directory of stubs above the layers; empty: none.
func (c Config) compile(targets string) (_ *compiler, err error) {
	if err := c.validate(); err != nil {
		return nil, err
	}

	g := &compiler{p: new(program.Program), c: c}
	defer func() {
		if err != nil {
			g.close()
		}
	}()

	if g.maps, err = readIDMaps(c.UIDs, c.GIDs); err != nil {
		return nil, err
	}

	g.birth()
	g.stdio()

	t, err := g.tree(targets)
	if err != nil {
		return nil, err
	}
	if err := t.build(); err != nil {
		return nil, err
	}

	if c.Network == Private {
		g.p.Sync("waiting for the private network")
	}
	if c.LockMounts {
		g.lock()
	}

	l := &launch{compiler: g, tree: t}
	if err := l.become(); err != nil {
		return nil, err
	}
	l.execute()

	return g, nil
}

// do adds a system call.
func (g *compiler) do(what string, nr uintptr, args ...any) *program.Op {
	return g.p.Do(what, nr, args...)
}

func (g *compiler) close() {
	for _, f := range g.files {
		f.Close() // O_PATH descriptors and detached mounts: nothing can fail to be written
	}
	g.files = nil
}

// birth waits for the ID maps and leaves the caller's session, cgroup names and mounts.
func (g *compiler) birth() {
	g.do("tying the sandbox to the builder", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL), 0, 0, 0)
	if g.c.Network == Private {
		// A caller that gained capabilities by an exec is not dumpable, and its forked child is
		// not. Then pasta, which has dropped CAP_SYS_PTRACE, could not open the child's namespaces
		// (proc(5)).
		g.do("making the namespaces visible", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	}

	g.p.Sync("waiting for the id maps of the sandbox")
	if g.c.ownCgroups() {
		// By unshare(2): clone(2) would make the caller's cgroup the root of the namespace.
		g.do("making a cgroup namespace", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP).Tolerate(unix.EPERM, unix.EINVAL, unix.ENOSPC)
	}

	g.do("starting a session", unix.SYS_SETSID)
	if g.c.Filter == nil || g.c.Filter.keys {
		// Otherwise the process could read the keys of the user's session. Where a filter refuses
		// keyctl(2) to the caller, the process cannot read keys either.
		g.do("leaving the session's keyring", unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0).Tolerate(unix.EPERM, unix.EACCES, unix.ENOSYS)
	}

	g.do("setting the umask", unix.SYS_UMASK, 0o022) // for the files that the set-up makes in /dev
	g.do("making all mounts private", unix.SYS_MOUNT, 0, "/", 0, unix.MS_SLAVE|unix.MS_REC, 0)
	if g.c.Spec.Hostname != "" {
		// EPERM: podman's seccomp profile allows new namespaces and refuses sethostname(2).
		g.do(whatHostname, unix.SYS_SETHOSTNAME, []byte(g.c.Spec.Hostname), len(g.c.Spec.Hostname)).Tolerate(unix.EPERM).Note()
	}

	if g.c.Network != Host {
		g.loopback()
	}
}

// ownCgroups reports whether the names of cgroups begin at the cgroup of the process.
func (c Config) ownCgroups() bool {
	return c.Cgroup != nil && c.Cgroup.Dir() != nil && c.CgroupNames != CgroupHost
}

// stdio duplicates the three streams to the descriptors 0 to 2, by way of higher numbers: the files
// may have these numbers.
func (g *compiler) stdio() {
	files := []*os.File{g.c.Stdin, g.c.Stdout, g.c.Stderr}
	regs := make([]program.Reg, len(files))
	for i, f := range files {
		regs[i] = g.p.Reg()
		const dup = unix.F_DUPFD_CLOEXEC
		if f != nil {
			g.do("duplicating "+f.Name(), unix.SYS_FCNTL, f, dup, 3).Into(regs[i])
			continue
		}
		null := g.p.Reg()
		g.do("opening /dev/null", unix.SYS_OPENAT, unix.AT_FDCWD, "/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0).Into(null)
		g.do("duplicating /dev/null", unix.SYS_FCNTL, null, dup, 3).Into(regs[i])
	}

	for i, r := range regs {
		g.do("setting up the standard streams", unix.SYS_DUP3, r, i, 0)
	}
}

// tree mounts the root file system and attaches it on top of the old root. The child does not see
// it by paths: each path below the new root is looked up from its descriptor.
func (g *compiler) tree(targets string) (*tree, error) {
	m := g.c.Root
	stubs, err := g.c.stubs()
	if err != nil {
		return nil, err
	}

	if targets != "" {
		m.Lowers = append([]string{targets}, m.Lowers...)
	}
	m.Lowers = append(slices.Clone(m.Lowers), stubs)

	// The caller mounts, not the child: descriptors of layers belong to mounts of the caller's
	// namespace.
	root, err := overlay.Detach(m)
	if err != nil {
		return nil, err
	}

	g.files = append(g.files, root)
	t := &tree{compiler: g, root: g.p.Reg()}
	g.do("taking the root file system", unix.SYS_FCNTL, root, unix.F_DUPFD_CLOEXEC, 3).Into(t.root)
	g.do("attaching the root file system", unix.SYS_MOVE_MOUNT, t.root, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH)
	return t, nil
}

// build adds all mounts, hides and protects paths, and makes the tree the root.
func (t *tree) build() error {
	for _, m := range t.c.Spec.Mounts {
		if err := t.mount(m); err != nil {
			return fmt.Errorf("mounting at %s: %w", m.Destination, err)
		}
		if t.c.ownCgroups() && path.Clean(m.Destination) == "/sys" {
			t.cgroups()
		}
	}

	t.paths()
	if err := t.hideCaller(); err != nil {
		return err
	}
	t.enter()
	return nil
}

// enter makes the overlay the root and detaches everything above it.
func (t *tree) enter() {
	chroot, end := t.p.Label(), t.p.Label()
	t.do("entering the root file system", unix.SYS_FCHDIR, t.root)
	if t.c.Chroot {
		t.p.Goto(chroot)
	}
	t.do(whatPivot, unix.SYS_PIVOT_ROOT, ".", ".").Tolerate(unix.EPERM, unix.ENOSYS).Note().Else(chroot)
	t.do("leaving the old root", unix.SYS_UMOUNT2, ".", unix.MNT_DETACH).Then(end)
	t.p.Mark(chroot)

	// The overlay is on top of the old root already, as after MS_MOVE. A process with
	// CAP_SYS_CHROOT could reach the old root below it.
	t.do("changing the root", unix.SYS_CHROOT, ".")
	t.do("giving up CAP_SYS_CHROOT", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, unix.CAP_SYS_CHROOT, 0, 0, 0)
	t.p.Mark(end)

	// RESOLVE_NO_MAGICLINKS: /proc/self/fd/N would lead to a file that the caller has open
	// (CVE-2024-21626).
	cwd := t.c.Spec.Process.Cwd
	dir := t.p.Reg()
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	t.do("entering the working directory "+cwd, unix.SYS_OPENAT2, unix.AT_FDCWD, cwd, program.Pointer(how), unix.SizeofOpenHow).Into(dir)
	t.do("entering the working directory "+cwd, unix.SYS_FCHDIR, dir)
}

// Names of operations that a host may refuse.
const (
	whatPivot    = "pivot_root"
	whatHostname = "setting the host name"
)

// lock enters another user namespace with the same IDs and a copy of the mounts. In a less
// privileged mount namespace, copied mounts are locked: the process can neither unmount them nor
// make them writable (mount_namespaces(7)).
func (g *compiler) lock() {
	g.do("locking the mounts", unix.SYS_UNSHARE, unix.CLONE_NEWUSER|unix.CLONE_NEWNS)
	g.p.Sync("waiting for the id maps behind the mounts")
}

// validate returns the error of a Config that names something the sandbox would otherwise ignore.
func (c Config) validate() error {
	s := c.Spec
	if s == nil || s.Process == nil || len(s.Process.Args) == 0 || s.Process.Args[0] == "" {
		return errors.New("starting a process: no program to run")
	}

	if s.Linux == nil {
		s.Linux = &specs.Linux{}
	}
	if !path.IsAbs(s.Process.Cwd) {
		return fmt.Errorf("starting a process: the working directory %q is not absolute", s.Process.Cwd)
	}

	for _, text := range slices.Concat(s.Process.Args, s.Process.Env, []string{s.Process.Cwd}) {
		if strings.ContainsRune(text, 0) {
			return errors.New("starting a process: a NUL byte in its arguments, environment or directory")
		}
	}

	if c.Stubs == "" {
		return errors.New("starting a process: no directory for mount stubs")
	}
	if c.Network == Private && c.NetworkHelper == "" {
		return errors.New("starting a process: no helper for the private network")
	}
	if c.Root.Upper == "" {
		return errors.New("starting a process: its root has no upper directory")
	}

	for what, set := range map[string]bool{
		"hooks":              s.Hooks != nil,
		"a terminal":         s.Process.Terminal,
		"an SELinux label":   s.Process.SelinuxLabel != "" || s.Linux.MountLabel != "",
		"oom_score_adj":      s.Process.OOMScoreAdj != nil,
		"a scheduler":        s.Process.Scheduler != nil,
		"an I/O priority":    s.Process.IOPriority != nil,
		"resource limits":    s.Linux.Resources != nil,
		"sysctl":             len(s.Linux.Sysctl) > 0,
		"devices":            len(s.Linux.Devices) > 0,
		"id mappings":        len(s.Linux.UIDMappings)+len(s.Linux.GIDMappings) > 0,
		"a read-only root":   s.Root != nil && s.Root.Readonly,
		"mount propagation":  s.Linux.RootfsPropagation != "",
		"a personality":      s.Linux.Personality != nil,
		"time offsets":       len(s.Linux.TimeOffsets) > 0,
		"a cgroup path":      s.Linux.CgroupsPath != "",
		"an NIS domain name": s.Domainname != "",
		"inheritable or ambient capabilities": s.Process.Capabilities != nil &&
			len(s.Process.Capabilities.Inheritable)+len(s.Process.Capabilities.Ambient) > 0,
	} {
		if set {
			return fmt.Errorf("starting a process: its description asks for %s, which this sandbox does not do", what)
		}
	}

	return nil
}

// explain adds the likely reason to the failure of an operation.
func (g *compiler) explain(err error) error {
	var f *program.Failure
	if !errors.As(err, &f) {
		return err
	}

	arg := g.c.Spec.Process.Args[0]
	switch {
	case f.What == whatExec:
		return execError(arg, f.Notes)
	case f.What == whatTry: // E2BIG, ENOMEM: no other file is tried
		return &ExecError{Path: arg, Errno: f.Errno}
	case f.What == whatAppArmor, f.What == whatFindAppArmor:
		return explainAppArmor(err, g.c.Spec.Process.ApparmorProfile)
	case strings.HasPrefix(f.What, "entering the working directory"):
		return fmt.Errorf("%w (a WORKDIR instruction creates it)", err)
	case isTarget(f.What) && f.Errno == unix.EXDEV:
		return fmt.Errorf("%w: a symbolic link in the image leads it into another mount", err)
	case isTarget(f.What) && f.Errno == unix.ELOOP:
		return fmt.Errorf("%w: the image has a symbolic link there, which cannot be mounted on", err)
	case f.Errno == unix.EINVAL && len(g.c.UIDs)+len(g.c.GIDs) > 0 && (f.What == whatGroups || strings.HasPrefix(f.What, "becoming ")):
		return fmt.Errorf("%w: the ID is not in the ranges of IDs that the process was given", err)
	case f.Errno == unix.EINVAL && strings.HasPrefix(f.What, "becoming "):
		return fmt.Errorf("%w: the ID is not mapped here; more subordinate IDs would map it", err)
	case f.Errno == unix.ELOOP && strings.HasPrefix(f.What, whatInside):
		return fmt.Errorf("%w: a symbolic link there leads each process elsewhere; name what it leads to", err)
	case isTarget(f.What) && f.Errno == unix.ENOTDIR:
		return fmt.Errorf("%w: the image has something else there", err)
	}

	return err
}

// notes describes the fallbacks of the set-up to the user, one line each.
func (g *compiler) notes(p *Process) {
	noted := func(what string) bool {
		return slices.ContainsFunc(p.child.Notes, func(n program.Failure) bool { return n.What == what })
	}
	add := func(text string) { p.Degraded = append(p.Degraded, text) }
	if noted(whatHostname) {
		add("sethostname is refused here: RUN has the host name of the builder")
	}
	switch {
	case noted(whatProcSubset):
		add("a /proc of its own is refused here, because parts of /proc are masked: RUN sees the processes around it, " +
			"/proc/PID does not match its pids, and nothing in /proc can be written; " +
			"in a pod set procMount: Unmasked with hostUsers: false, or use Linux 7.2 or newer")
	case noted(whatProcFresh):
		add("a full /proc is refused here: RUN sees only the process directories (subset=pid)")
	}

	if noted(whatPivot) {
		add("pivot_root is refused here: RUN uses chroot, without CAP_SYS_CHROOT")
	}
}
