package sandbox

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/program"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

// Network is the network that a process sees.
type Network int

// The networks.
const (
	Host    Network = iota // the caller's network
	None                   // a network namespace with a loopback interface only
	Private                // a network namespace connected by pasta or slirp4netns
)

// CgroupNames says where the names of cgroups begin for a process (cgroup_namespaces(7)).
type CgroupNames int

// The ways. The zero value is CgroupAuto.
const (
	// CgroupAuto: names begin at Config.Cgroup if that is a cgroup of version 2. /sys/fs/cgroup
	// shows that cgroup, read-only.
	CgroupAuto    CgroupNames = iota
	CgroupHost                // the process sees the caller's names
	CgroupPrivate             // as CgroupAuto; without Config.Cgroup, names begin at the caller's cgroup
)

// ProcMount is a way to mount /proc.
type ProcMount int

// The ways. ProcAuto, the zero value, tries the others in this order.
const (
	ProcAuto   ProcMount = iota
	ProcFresh            // a procfs of the new PID namespace
	ProcSubset           // as ProcFresh with subset=pid: allowed where /proc is masked since Linux 7.2
	ProcBind             // the caller's /proc, read-only: shows the caller's processes, under their PIDs there
)

// Config describes one process and its surroundings.
type Config struct {
	// Spec is the process and its mounts. Start refuses fields that are set and not supported.
	// Spec.Linux.Seccomp is used if Filter is nil.
	Spec *specs.Spec
	// Root is the file system. Root.Lowers may be empty: the file system begins as an empty
	// directory then.
	Root overlay.Mount
	// Stubs is a directory on the file system of Root.Upper. Start keeps empty directories and
	// files there, which stand in for mount targets that the image lacks. Start makes the directory
	// if it is missing. Processes may share the directory; the caller removes it after the last
	// process.
	Stubs string
	// Sources holds the sources of bind mounts by destination, as descriptors (O_PATH is enough).
	// The source of another bind mount is opened by Spec's path during Start.
	Sources map[string]*os.File

	Streams
	IDs

	// Cgroup is the cgroup in which the process starts. Nil: the caller's.
	Cgroup      Cgroup
	CgroupNames CgroupNames
	// LockMounts: a process with CAP_SYS_ADMIN can neither unmount the covers of paths that Spec
	// hides nor make read-only paths writable. The process then has no capability over its other
	// namespaces.
	LockMounts bool

	Network Network
	// NetworkHelper is the path of pasta or slirp4netns, for Private; see FindNetworkHelper.
	NetworkHelper string
	// Filter is the compiled seccomp profile. Nil: Start compiles Spec.Linux.Seccomp; if that is
	// nil, too, the process has no filter.
	Filter *Filter

	// Proc forces one way to mount /proc. The zero value tries all ways.
	Proc ProcMount
	// Chroot forces chroot(2) where pivot_root(2) would succeed. The process then loses
	// CAP_SYS_CHROOT.
	Chroot bool
	// Debug is called with the listing of the system calls that set up the process, before they are
	// made. Nil: no listing.
	Debug func(program string)
}

// Streams are the standard streams of a process. Nil: /dev/null. Start makes the files blocking.
type Streams struct{ Stdin, Stdout, Stderr *os.File }

// IDs are the user and group IDs that a process knows. The zero value: all IDs of the caller's user
// namespace, and the supplementary groups of Spec.
type IDs struct {
	// UIDs and GIDs are ranges of IDs of the caller's user namespace, 0 among them. Nil: all. A
	// file of another owner belongs to the overflow ID for the process (user_namespaces(7)), which
	// cannot change the file.
	UIDs, GIDs []IDRange
	// KeepGroups keeps the supplementary groups of the caller in place of Spec's.
	KeepGroups bool
}

// Process is a running process. When the process ends, the kernel kills all processes that it
// started.
type Process struct {
	// Degraded has one line for each fallback that Start used, for example chroot(2) in place of
	// pivot_root(2).
	Degraded []string

	child   *program.Child
	helper  *helper
	targets string // directory of stubs for this process alone, "" if none
}

// State is the exit status and the resource usage of an ended process.
type State = program.State

// Cgroup is a control group for the process; see package cgroup.
type Cgroup = program.Cgroup

// Start starts the process and returns after execve(2) of the program. If the program cannot be
// executed, the error is an *ExecError. Another error names the operation of the set-up that
// failed. After an error no process and no mount is left.
func Start(c Config) (*Process, error) {
	p, err := c.start("")
	var missing *program.Failure
	if err == nil || !errors.As(err, &missing) || missing.Errno != unix.ENOENT || !isTarget(missing.What) {
		return p, err
	}

	// A target is missing although the stubs have it: a symbolic link of the image leads elsewhere,
	// or a whiteout of the image hides the stub. Make stubs in a layer above the image, at the
	// paths to which the links lead.
	targets, err := c.stubsOnTop()
	if err != nil {
		return nil, err
	}

	p, err = c.start(targets)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(targets))
	}
	return p, nil
}

// start makes one attempt. targets is a directory of stubs that becomes the topmost lower
// directory; empty: none.
func (c Config) start(targets string) (*Process, error) {
	prog, err := c.compile(targets)
	if err != nil {
		return nil, err
	}
	defer prog.close()

	if c.Debug != nil {
		c.Debug(prog.p.String())
	}
	p := &Process{targets: targets}
	steps := []func(*program.Child) error{prog.maps.write}
	if c.Network == Private {
		steps = append(steps, func(child *program.Child) (err error) {
			p.helper, err = attachNetwork(c.NetworkHelper, child)
			return err
		})
	}

	if c.Cgroup != nil {
		prog.p.InCgroup(c.Cgroup)
	}
	if c.LockMounts {
		steps = append(steps, prog.maps.writeInside)
	}
	p.child, err = prog.p.Start(c.namespaces(), steps...)
	if err != nil {
		return nil, errors.Join(prog.explain(err), p.helper.stop())
	}

	prog.notes(p)

	return p, nil
}

func (c Config) namespaces() uintptr {
	flags := uintptr(unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS)
	if c.Network != Host {
		flags |= unix.CLONE_NEWNET
	}
	if c.CgroupNames == CgroupPrivate && !c.ownCgroups() {
		flags |= unix.CLONE_NEWCGROUP
	}
	return flags
}

// Pid returns the process id in the PID namespace of the caller.
func (p *Process) Pid() int { return p.child.Pid }

// Wait waits for the end of the process. By then the kernel has killed all processes that the
// process left in the background, even a process that still holds Stdout open.
func (p *Process) Wait() (State, error) {
	state, err := p.child.Wait()
	err = errors.Join(err, p.helper.stop())
	if p.targets != "" {
		err = errors.Join(err, os.RemoveAll(p.targets))
	}
	return state, err
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.child.Done() }

// Signal sends a signal to the process. If the process has ended, the error is os.ErrProcessDone.
// The process is the init of its PID namespace and ignores signals without a handler, except
// SIGKILL.
func (p *Process) Signal(sig syscall.Signal) error { return p.child.Signal(sig) }

// Kill kills the process and all processes that it started. Kill of an ended process is no error.
func (p *Process) Kill() error {
	if err := p.child.Signal(unix.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing process %d: %w", p.child.Pid, err)
	}
	return nil
}

// An ExecError is the error of a program that could not be executed.
type ExecError struct {
	Path  string // Args[0], as the caller gave it
	Errno syscall.Errno
	// Interpreter: the file exists, and its interpreter ("#!" or dynamic loader) is missing.
	Interpreter bool
}

func (e *ExecError) Error() string {
	switch {
	case e.Interpreter:
		return fmt.Sprintf("executing %q: its interpreter or dynamic loader is not in the image", e.Path)
	case e.Errno == unix.ENOENT || e.Errno == unix.ENOTDIR:
		return fmt.Sprintf("executing %q: not found in the image", e.Path)
	case e.Errno == unix.E2BIG:
		return fmt.Sprintf("executing %q: the command and its environment are longer than the kernel accepts", e.Path)
	case e.Errno == unix.ELOOP:
		return fmt.Sprintf("executing %q: a link of /proc or a loop of links is not followed", e.Path)
	}
	return fmt.Sprintf("executing %q: %v", e.Path, e.Errno)
}

// NoHandler reports whether the program exists and the kernel found no way to execute it. The
// program may be for another architecture.
func (e *ExecError) NoHandler() bool { return e.Errno == unix.ENOEXEC || e.Interpreter }

// TooLong reports whether the arguments and the environment are longer than the kernel accepts.
func (e *ExecError) TooLong() bool { return e.Errno == unix.E2BIG }

// Unwrap returns the error number.
func (e *ExecError) Unwrap() error { return e.Errno }

// ExitCode returns the exit code of a shell for this error: 127 if the program does not exist, else
// 126.
func (e *ExecError) ExitCode() int {
	if e.Errno == unix.ENOENT || e.Errno == unix.ENOTDIR {
		return 127
	}
	return 126
}
