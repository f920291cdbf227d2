package sandbox

import (
	"fmt"
	"path"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/program"
)

const whatExec = "executing the program"

// become adds the operations that give up the caller's user, groups and capabilities.
//
// The order: without no_new_privs a seccomp filter needs CAP_SYS_ADMIN, so capabilities are dropped
// last. A change of user or capabilities undoes PR_SET_PDEATHSIG (prctl(2)), so that call follows.
func (l *launch) become() error {
	p := l.c.Spec.Process
	umask := 0o022
	if p.User.Umask != nil {
		umask = int(*p.User.Umask)
	}
	l.do("setting the umask", unix.SYS_UMASK, umask)
	bounding, final, err := capabilities(p)
	if err != nil {
		return err
	}

	dropped := l.p.Label()
	for n := range 64 {
		if bounding&(1<<n) == 0 {
			// EINVAL: the kernel has no capability with this number or a higher one.
			l.do("limiting the capabilities", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, n, 0, 0, 0).Tolerate(unix.EINVAL).Else(dropped)
		}
	}

	l.p.Mark(dropped)
	l.user(p.User)
	l.capset(^uint64(0)>>23, ^uint64(0)>>23)
	l.cleanSignals()
	l.do("closing the descriptors of the builder", unix.SYS_CLOSE_RANGE, 3, int(^uint32(0)), unix.CLOSE_RANGE_CLOEXEC)
	l.find()
	if err := l.appArmor(); err != nil {
		return err
	}
	if err := l.rlimits(p.Rlimits); err != nil { // after the last new descriptor: the process may have a lower limit
		return err
	}
	if p.NoNewPrivileges {
		l.do("setting no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		l.settle(final)
		return l.seccomp()
	}
	if err := l.seccomp(); err != nil {
		return err
	}

	l.settle(final)

	return nil
}

// settle drops the last capabilities. PR_SET_PDEATHSIG follows: the change of capabilities undoes
// it.
func (l *launch) settle(caps uint64) {
	l.capset(caps, caps)
	l.do("tying the process to the builder", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL), 0, 0, 0)
}

// cleanSignals resets all signals: no handler, no ignored and no blocked signal.
func (l *launch) cleanSignals() {
	dfl := new([32]byte) // struct sigaction of all zeros: SIG_DFL
	for sig := 1; sig <= 64; sig++ {
		if sig == int(unix.SIGKILL) || sig == int(unix.SIGSTOP) {
			continue
		}
		l.do("resetting signals", unix.SYS_RT_SIGACTION, sig, program.Pointer(dfl), 0, 8)
	}
	none := new(uint64)
	l.do("unblocking signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, program.Pointer(none), 0, 8)
}

// capabilities returns the bounding set and the set with which the process starts. As with docker,
// a user other than root starts with none.
func capabilities(p *specs.Process) (bounding, final uint64, err error) {
	if p.Capabilities == nil {
		return 0, 0, nil
	}
	if bounding, err = capabilityMask(p.Capabilities.Bounding); err != nil {
		return 0, 0, err
	}
	if final, err = capabilityMask(p.Capabilities.Permitted); err != nil {
		return 0, 0, err
	}

	if p.User.UID != 0 {
		final = 0
	}
	return bounding, final & bounding, nil
}

// user sets the user and group IDs. Supplementary groups are set even to an empty list: the process
// must not keep the caller's groups (CVE-2022-2990) unless KeepGroups says so. Where the kernel
// forbids setgroups(2), the process keeps the groups that the user has anyway.
func (l *launch) user(u specs.User) {
	groups := append([]uint32(nil), u.AdditionalGids...)
	switch {
	case l.c.KeepGroups, l.maps.fixedGroups:
	case len(groups) == 0:
		l.do(whatGroups, unix.SYS_SETGROUPS, 0, 0)
	default:
		list := &groupList{ids: groups}
		l.p.Keep(list)
		l.do(whatGroups, unix.SYS_SETGROUPS, len(groups), program.Pointer(&list.ids[0]))
	}

	gid, uid := int(u.GID), int(u.UID)
	l.do(fmt.Sprintf("becoming group %d", gid), unix.SYS_SETRESGID, gid, gid, gid)
	l.do("keeping capabilities for the rest of the set-up", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0, 0, 0)
	l.do(fmt.Sprintf("becoming user %d", uid), unix.SYS_SETRESUID, uid, uid, uid)
	l.do("keeping no capabilities after that", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 0, 0, 0, 0)
}

const whatGroups = "setting the supplementary groups"

type groupList struct{ ids []uint32 }

// capset sets the effective and permitted capabilities, and no inheritable ones (CVE-2022-29162).
func (l *launch) capset(effective, permitted uint64) {
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := &[2]unix.CapUserData{
		{Effective: uint32(effective), Permitted: uint32(permitted)},
		{Effective: uint32(effective >> 32), Permitted: uint32(permitted >> 32)},
	}
	l.do("setting the capabilities", unix.SYS_CAPSET, program.Pointer(header), program.Pointer(data))
}

// rlimitNames are the resources of getrlimit(2) by their names in a runtime-spec.
func rlimitNames() map[string]int {
	return map[string]int{
		"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
		"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
		"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE,
		"RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS,
		"RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
		"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
	}
}

// HardLimit returns the caller's hard limit of a resource by its name in a runtime-spec, for
// example "RLIMIT_NOFILE". No process gets a higher limit.
func HardLimit(name string) (uint64, error) {
	resource, ok := rlimitNames()[name]
	if !ok {
		return 0, fmt.Errorf("unknown resource limit %q", name)
	}
	var own unix.Rlimit
	if err := unix.Getrlimit(resource, &own); err != nil {
		return 0, fmt.Errorf("reading %s: %w", name, err)
	}
	return own.Max, nil
}

// rlimits sets limits up to the caller's hard limit, which a process in a user namespace cannot
// raise.
func (l *launch) rlimits(limits []specs.POSIXRlimit) error {
	for _, r := range limits {
		highest, err := HardLimit(r.Type)
		if err != nil {
			return err
		}
		limit := &unix.Rlimit{Cur: min(r.Soft, highest), Max: min(r.Hard, highest)}
		l.do("setting "+r.Type, unix.SYS_PRLIMIT64, 0, rlimitNames()[r.Type], program.Pointer(limit), 0)
	}
	return nil
}

// find adds the search for the program. The search comes before the filter, which may be the user's
// and need not allow the calls of the search. No lookup follows magic links: until execve,
// /proc/self/exe and /proc/self/fd are the caller's (CVE-2019-5736).
func (l *launch) find() {
	p := l.c.Spec.Process
	for _, file := range Candidates(p.Args[0], p.Env) {
		found, next := l.p.Reg(), l.p.Label()
		how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
		l.do(whatFind, unix.SYS_OPENAT2, unix.AT_FDCWD, file, program.Pointer(how), unix.SizeofOpenHow).
			Tolerate(missing()...).Note().Into(found).Else(next)
		l.p.Mark(next)
		l.found = append(l.found, candidate{file, found})
	}
}

// candidate is a path that the program's name may mean, and a register that is set if the file
// exists.
type candidate struct {
	file  string
	found program.Reg
}

// missing returns the errors after which the search continues.
func missing() []unix.Errno {
	return []unix.Errno{unix.ENOENT, unix.ENOTDIR, unix.EACCES, unix.ELOOP, unix.ENAMETOOLONG}
}

// execute executes the first candidate that the kernel accepts.
func (l *launch) execute() {
	p := l.c.Spec.Process
	for _, c := range l.found {
		next := l.p.Label()
		l.p.Need(whatFind, c.found, unix.ENOENT).Tolerate(unix.ENOENT).Else(next)
		l.do(whatTry, unix.SYS_EXECVE, c.file, p.Args, p.Env).
			Tolerate(append(missing(), unix.ENOEXEC, unix.ETXTBSY)...).Note()
		l.p.Mark(next)
	}
	l.p.Fail(whatExec, unix.ENOENT)
}

// Candidates returns the paths that the name of a program may mean to a process with the
// environment env, in the order of execvp(3). A path that is not absolute is relative to the
// working directory of the process. Example: "make" with PATH=/bin: "/bin/make".
func Candidates(name string, env []string) []string {
	if strings.Contains(name, "/") {
		return []string{name}
	}

	dirs := DefaultPath
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, "PATH="); ok {
			dirs = value
		}
	}

	var files []string
	for dir := range strings.SplitSeq(dirs, ":") {
		file := path.Join(dir, name)
		if dir == "" || !strings.HasPrefix(file, "/") {
			file = "./" + file
		}
		files = append(files, file)
	}

	return files
}

const (
	whatFind = "finding the program"
	whatTry  = "trying a program"
)

// execError returns the error of a program for which all candidates failed: the first failure other
// than a missing file.
func execError(name string, notes []program.Failure) *ExecError {
	e := &ExecError{Path: name, Errno: unix.ENOENT}
	for _, n := range notes {
		switch {
		case n.What == whatTry && (n.Errno == unix.ENOENT || n.Errno == unix.ENOTDIR):
			e.Interpreter = true
			return e
		case n.What == whatTry, n.What == whatFind && n.Errno != unix.ENOENT && n.Errno != unix.ENOTDIR:
			e.Errno = n.Errno
			return e
		}
	}

	return e
}
