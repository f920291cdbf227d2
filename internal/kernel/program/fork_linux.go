package program

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// The runtime's own preparations for a fork. They block signals, so that no handler of the parent
// runs in the child, and make a growing stack fail at once. Both names are in the runtime's list of
// linknames that are kept for other packages (golang.org/issue/67401). The empty file fork_linux.s
// permits functions without a body.
//
//go:linkname runtimeBeforeFork syscall.runtime_BeforeFork
func runtimeBeforeFork()

//go:linkname runtimeAfterFork syscall.runtime_AfterFork
func runtimeAfterFork()

// A report is two words: the index of an op and its error number. noteBit marks the report of a
// tolerated failure. The report {ready, 0} says that the child waits.
const (
	noteBit = 1 << 31
	ready   = ^uint32(0)
)

// execute runs code. It returns the index of the op that failed and the error number, or len(code)
// and 0 at the end. In a child, execute runs in a process with a single thread of a Go program and
// without the Go runtime: execute must not allocate, grow its stack, or need a write barrier.
//
//go:norace
//go:nosplit
//go:nocheckptr
func execute(code []instruction, regs []uintptr, record *[2]uint32) (int, syscall.Errno) {
	i := 0
	for i < len(code) {
		in := &code[i]
		var result uintptr
		var errno syscall.Errno
		switch in.nr {
		case opGoto:
		case opFail:
			errno = syscall.Errno(in.args[0])
		case opCheck:
			if *in.check.word&in.check.mask != in.check.want {
				errno = syscall.Errno(in.args[0])
			}
		case opNeed:
			if regs[in.args[1]] == 0 {
				errno = syscall.Errno(in.args[0])
			}
		default:
			result, errno = call(in, regs)
		}

		if errno == 0 {
			if in.out != 0 {
				regs[in.out] = result
			}
			i = in.then
			continue
		}
		if !in.tolerates(errno) {
			return i, errno
		}

		if in.note && regs[regReport] != 0 {
			record[0], record[1] = uint32(i)|noteBit, uint32(errno)
			_, _, _ = syscall.RawSyscall6(syscall.SYS_WRITE,
				regs[regReport], uintptr(unsafe.Pointer(record)), 8, 0, 0, 0)
		}

		i = in.other
	}

	return i, 0
}

// call makes the system call of an instruction, again after EINTR.
//
//go:norace
//go:nosplit
//go:nocheckptr
func call(in *instruction, regs []uintptr) (uintptr, syscall.Errno) {
	args := in.args
	for k := range args {
		if in.regs&(1<<k) != 0 {
			args[k] = regs[args[k]]
		}
	}

	for tries := 0; ; tries++ {
		result, _, errno := syscall.RawSyscall6(in.nr, args[0], args[1], args[2], args[3], args[4], args[5])
		// openat2(2): EAGAIN if a rename or mount anywhere made ".." unsafe for a moment.
		again := errno == syscall.EINTR || errno == syscall.EAGAIN && in.nr == unix.SYS_OPENAT2 && tries < 10000
		if !again {
			return result, errno
		}
	}
}

// tolerates reports whether the program continues after errno.
//
//go:norace
//go:nosplit
func (in *instruction) tolerates(errno syscall.Errno) bool {
	for _, e := range in.tolerated {
		if e != 0 && syscall.Errno(e) == errno {
			return true
		}
	}
	return false
}

// cloneArgs is struct clone_args of clone3(2), as since Linux 5.7 (CLONE_ARGS_SIZE_VER2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// fork starts a child that executes code and reports its failure. The caller holds ForkLock and is
// locked to its thread. If args is not nil, clone3(2) starts the child, and flags are ignored.
//
//go:norace
//go:noinline
//go:nocheckptr
func fork(
	flags uintptr, pidfd *int32, args *cloneArgs, code []instruction, regs []uintptr, record *[2]uint32,
) (uintptr, syscall.Errno) {
	var pid uintptr
	var errno syscall.Errno
	runtimeBeforeFork()
	if args != nil {
		pid, _, errno = syscall.RawSyscall6(unix.SYS_CLONE3,
			uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0, 0, 0, 0)
	} else {
		pid, _, errno = syscall.RawSyscall6(syscall.SYS_CLONE, flags, 0, uintptr(unsafe.Pointer(pidfd)), 0, 0, 0)
	}

	if errno != 0 || pid != 0 {
		runtimeAfterFork()
		return pid, errno
	}

	child(code, regs, record)
	return 0, 0
}

// child is the life of the child up to execve(2). child does not return.
//
//go:norace
//go:nosplit
//go:nocheckptr
func child(code []instruction, regs []uintptr, record *[2]uint32) {
	i, errno := execute(code, regs, record)
	record[0], record[1] = uint32(i), uint32(errno)
	_, _, _ = syscall.RawSyscall6(syscall.SYS_WRITE, regs[regReport], uintptr(unsafe.Pointer(record)), 8, 0, 0, 0)
	_, _, _ = syscall.RawSyscall6(syscall.SYS_EXIT_GROUP, 253, 0, 0, 0, 0, 0)

	// A seccomp filter may refuse exit_group. A fault ends the child: no handler of SIGSEGV can run
	// here, and the kernel delivers a fault also to the init of a PID namespace.
	for {
		*(*byte)(unsafe.Pointer(uintptr(unsafe.Pointer(record)) &^ ^uintptr(0))) = 0
	}
}

// Run executes p in the calling thread. The error is a *Failure. Close closes the descriptors that
// p has opened.
func (p *Program) Run() error {
	p.compile()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	i, errno := execute(p.code, p.regs, &p.record)
	runtime.KeepAlive(p)
	if errno != 0 {
		return p.failure(i, errno)
	}
	return nil
}

// Value returns the value of r after Run.
func (p *Program) Value(r Reg) uintptr { return p.regs[r] }

// A Child is a process that Start made.
type Child struct {
	Pid   int       // in the PID namespace of this process
	Notes []Failure // tolerated failures of ops with Note, in their order

	mu    sync.Mutex // held while pidfd is used or closed
	pidfd int        // -1 after the child was reaped

	steps  int // writing end of the pipe on which the child waits
	report int // reading end of the pipe on which the child reports

	born   bool // the child was born in the cgroup of its program
	thread bool // the thread that forked has been in that cgroup, and ends with its goroutine

	done  chan struct{} // closed when state and err are set
	state State
	err   error
}

// State is the end of a process and the resources that the process used.
type State struct {
	ExitCode int            // 0 to 255; -1 if a signal ended the process
	Signal   syscall.Signal // 0 if the process exited
	Rusage   syscall.Rusage // of the process and of its descendants that were waited for
}

// Start forks a child that executes p. flags are those of clone(2), such as CLONE_NEWNS, but not
// CLONE_VM. The program ends in execve(2), and Start returns when execve has succeeded. A *Failure
// names the op that failed; then no process is left. The steps run in the parent, one for each
// Sync.
//
// The child begins with all signals blocked, with the dispositions of signals of the parent (execve
// resets the handlers), and with the inherited descriptors only. The program must unblock signals
// and mark descriptors close-on-exec itself. The thread that forks waits until the child was
// reaped, so that PR_SET_PDEATHSIG in the child means this process. The caller calls Wait.
func (p *Program) Start(flags uintptr, steps ...func(*Child) error) (*Child, error) {
	if len(steps) != p.syncs {
		return nil, fmt.Errorf("a program that waits %d times was given %d steps", p.syncs, len(steps))
	}
	if p.cgroup != nil && p.syncs == 0 {
		return nil, errors.New("a program that never waits was given a cgroup")
	}

	c := &Child{done: make(chan struct{})}
	started := make(chan error)
	go c.live(p, flags, steps, started)
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// live is the goroutine, and the thread, that is the child's parent. live takes the steps in this
// goroutine: to hand a step to another goroutine would cost more than most steps.
func (c *Child) live(p *Program, flags uintptr, steps []func(*Child) error, started chan<- error) {
	runtime.LockOSThread()
	defer func() {
		if !c.thread { // otherwise the thread ends with this goroutine
			runtime.UnlockOSThread()
		}
	}()

	if err := c.fork(p, flags); err != nil {
		started <- fmt.Errorf("creating a process in new namespaces: %w", err)
		return
	}

	err := c.follow(p, steps)
	if err != nil {
		if kill := c.Signal(unix.SIGKILL); kill != nil && !errors.Is(kill, os.ErrProcessDone) {
			started <- errors.Join(err, kill)
			return
		}
	} else {
		started <- nil
	}

	c.state, c.err = reap(c.pidfd)
	c.mu.Lock()
	unix.Close(c.pidfd)
	c.pidfd = -1
	c.mu.Unlock()
	close(c.done)
	if err != nil {
		started <- err
	}
}

// fork makes the pipes and forks the child.
func (c *Child) fork(p *Program, flags uintptr) error {
	var report, steps [2]int
	if err := unix.Pipe2(report[:], unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("pipe2", err)
	}
	defer unix.Close(report[1])

	c.report = report[0]
	if err := unix.Pipe2(steps[:], unix.O_CLOEXEC); err != nil {
		unix.Close(report[0])
		return os.NewSyscallError("pipe2", err)
	}
	defer unix.Close(steps[0])

	c.steps = steps[1]
	p.prologue(report[1], steps[0])

	pidfd := new(int32)
	*pidfd = -1
	syscall.ForkLock.Lock()
	pid, errno := c.forkInto(p, flags|unix.CLONE_PIDFD, pidfd)
	if !c.born {
		defer c.enter(p)()
		pid, errno = fork(flags|unix.CLONE_PIDFD|uintptr(unix.SIGCHLD), pidfd, nil, p.code, p.regs, &p.record)
	}

	syscall.ForkLock.Unlock()
	runtime.KeepAlive(p)
	if errno != 0 {
		unix.Close(report[0])
		unix.Close(steps[1])
		return os.NewSyscallError("clone", errno)
	}

	c.Pid, c.pidfd = int(pid), int(*pidfd)

	return nil
}

// forkInto forks the child into the cgroup of p, and sets c.born, if the cgroup is of version 2 and
// the kernel can do that: since Linux 5.7, but not under the seccomp filters of containers, which
// refuse clone3 with ENOSYS.
func (c *Child) forkInto(p *Program, flags uintptr, pidfd *int32) (uintptr, syscall.Errno) {
	if p.cgroup == nil || p.cgroup.Dir() == nil {
		return 0, 0
	}

	args := &cloneArgs{
		flags:      uint64(flags) | unix.CLONE_INTO_CGROUP,
		pidfd:      uint64(uintptr(unsafe.Pointer(pidfd))),
		exitSignal: uint64(unix.SIGCHLD),
		cgroup:     uint64(p.cgroup.Dir().Fd()),
	}
	pid, errno := fork(0, nil, args, p.code, p.regs, &p.record)
	c.born = errno == 0
	runtime.KeepAlive(pidfd)
	return pid, errno
}

// enter moves this thread into the cgroup of p, if that is possible, and returns the function that
// moves the thread out. A thread that cannot be moved out does no harm in the cgroup: the thread
// waits for the child, and ends.
func (c *Child) enter(p *Program) (leave func()) {
	nothing := func() {}
	if p.cgroup == nil || unix.Gettid() == unix.Getpid() { // the main thread does not end with its goroutine
		return nothing
	}
	out, err := p.cgroup.Enter()
	if err != nil {
		return nothing // the child is moved instead
	}
	c.born, c.thread = true, true
	return func() { _ = out() }
}

// prologue compiles p, and prepends ops that close every descriptor that is not inherited: a child
// that waits must not keep the pipes of other children open.
func (p *Program) prologue(report, sync int) {
	p.compile()
	p.regs[regReport], p.regs[regSync] = uintptr(report), uintptr(sync)
	var closing Program
	next := 0
	for _, fd := range sortedSet(p.inherit, report, sync) {
		if fd > next {
			closing.Do(closingWhat, unix.SYS_CLOSE_RANGE, next, fd-1, 0)
		}
		next = fd + 1
	}
	closing.Do(closingWhat, unix.SYS_CLOSE_RANGE, next, int(^uint32(0)), 0)

	closing.compile()
	n := len(closing.code)
	for i := range p.code {
		p.code[i].then += n
		p.code[i].other += n
	}

	p.code = append(closing.code, p.code...)
	p.ops = append(closing.ops, p.ops...)
	for l := range p.labels {
		p.labels[l] += n
	}
}

// closingWhat is the purpose of the ops of prologue.
const closingWhat = "closing the descriptors of the builder"

// sortedSet returns all numbers in order, each once.
func sortedSet(numbers []int, more ...int) []int {
	all := append(slices.Clone(numbers), more...)
	slices.Sort(all)
	return slices.Compact(all)
}

// follow takes the steps of the parent and reads the reports of the child until execve(2) has
// succeeded.
func (c *Child) follow(p *Program, steps []func(*Child) error) error {
	defer unix.Close(c.report)
	defer unix.Close(c.steps)

	if p.cgroup != nil && !c.born {
		if err := p.cgroup.Add(c.Pid); err != nil {
			return err
		}
	}

	for i, step := range steps {
		if i > 0 {
			if waits, err := c.read(p); !waits {
				return err
			}
		}
		if err := step(c); err != nil {
			return err
		}

		// EPIPE: the child has failed already, and its report says why.
		if _, err := unix.Write(c.steps, []byte{byte((i + 1) & 0x7f)}); err != nil && !errors.Is(err, unix.EPIPE) {
			return os.NewSyscallError("write", err)
		}
	}

	_, err := c.read(p)

	return err
}

// read reads reports up to the end of the pipe, or until the child waits for its parent. The error
// is the *Failure of the child.
func (c *Child) read(p *Program) (waits bool, err error) {
	for {
		var record [2]uint32
		buf := unsafe.Slice((*byte)(unsafe.Pointer(&record)), 8)
		n, err := unix.Read(c.report, buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return false, os.NewSyscallError("read", err)
		case n != len(buf):
			return false, nil
		case record[0] == ready:
			return true, nil
		case record[0]&noteBit == 0:
			f := p.failure(int(record[0]), syscall.Errno(record[1]))
			f.Notes = c.Notes
			return false, f
		}

		c.Notes = append(c.Notes, *p.failure(int(record[0]&^noteBit), syscall.Errno(record[1])))
	}
}

// Wait waits until the child has ended and returns the state of the child. Wait may be called
// several times, and from several goroutines.
func (c *Child) Wait() (State, error) {
	<-c.done
	return c.state, c.err
}

// Done is closed when the child has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Signal sends sig to the child. The error is os.ErrProcessDone if the child has ended.
func (c *Child) Signal(sig syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pidfd < 0 {
		return os.ErrProcessDone
	}
	err := unix.PidfdSendSignal(c.pidfd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return os.NewSyscallError("pidfd_send_signal", err)
}

// reap waits for the process behind pidfd.
func reap(pidfd int) (State, error) {
	var info unix.Siginfo
	var usage unix.Rusage
	for {
		err := unix.Waitid(unix.P_PIDFD, pidfd, &info, unix.WEXITED, &usage)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return State{}, os.NewSyscallError("waitid", err)
		}
		break
	}

	state := State{Rusage: *(*syscall.Rusage)(unsafe.Pointer(&usage))}

	// siginfo of SIGCHLD: after three ints and padding come pid, uid and status.
	status := *(*int32)(unsafe.Add(unsafe.Pointer(&info), 24))
	if info.Code == cldExited {
		state.ExitCode = int(status)
	} else {
		state.ExitCode, state.Signal = -1, syscall.Signal(status&0x7f)
	}

	return state, nil
}

// cldExited is CLD_EXITED of siginfo's si_code.
const cldExited = 1

// ProcDir returns the directory of the child below the /proc of this process, for example
// "/proc/42". If /proc was mounted for an outer PID namespace, the number is not Pid, and is read
// from the pidfd.
func (c *Child) ProcDir() (string, error) {
	if self, _ := fdfs.ProcSelf(); self == "/proc/"+strconv.Itoa(os.Getpid()) {
		return "/proc/" + strconv.Itoa(c.Pid), nil
	}

	c.mu.Lock() // the descriptor's number must not be another file's by now
	defer c.mu.Unlock()

	text, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(c.pidfd))
	if err != nil {
		return "", fmt.Errorf("finding the process in /proc: %w", err)
	}

	for line := range strings.Lines(string(text)) {
		if pid, ok := strings.CutPrefix(line, "Pid:"); ok {
			if pid = strings.TrimSpace(pid); pid != "0" && pid != "-1" {
				return "/proc/" + pid, nil
			}
		}
	}

	return "", errors.New("finding the process in /proc: it is not visible there")
}
