// Package program runs lists of system calls, in this process or in a child that never runs Go
// code.
//
// A Go program cannot call fork(2): the child would have a single thread of many, and the Go
// runtime does not work there. So [Program] prepares everything before the fork: each string,
// buffer and structure is allocated, and each system call is a line of a table. The child executes
// the table up to execve(2):
//
//	p := new(program.Program)
//	root := p.Reg()
//	p.Do("opening the root directory", unix.SYS_OPENAT, unix.AT_FDCWD, "/srv/root", unix.O_PATH, 0).Into(root)
//	p.Do("entering the root directory", unix.SYS_FCHDIR, root)
//	p.Do("changing the root directory", unix.SYS_CHROOT, ".")
//	p.Do("executing sh", unix.SYS_EXECVE, "/bin/sh", []string{"sh"}, []string{"PATH=/bin"})
//	child, err := p.Start(unix.CLONE_NEWNS)
//
// A failed call ends the program and names its line: "entering the root directory: not a
// directory". Set-up of a RUN step by such a program costs a fraction of a re-executed Go program
// (docs/bench.md).
//
// # The handshake
//
// A child whose program has lines from [Program.Sync] waits there for the parent, which does its
// part in a step, for example writes /proc/PID/uid_map. Child and parent share two pipes:
//
//	parent (one goroutine on one thread)             child (no Go code)
//
//	Start: clone3(CLONE_INTO_CGROUP) or clone(2) --> close_range(2) of all descriptors but the inherited
//	                                                 first Sync: read(steps) waits
//	step 1
//	write(steps, 1)  ------------------------------> goes on
//	read(report) waits                               second Sync:
//	    <------------------------------------------- write(report, {ready, 0}), read(steps) waits
//	step 2
//	write(steps, 2)  ------------------------------> goes on
//	read(report) waits                               tolerated failure of a line with Note:
//	    <------------------------------------------- write(report, {line|noteBit, errno})
//	                                                 failure: write(report, {line, errno}), exit_group
//	    <---- end of file: the pipe is close-on-exec execve(2) succeeds
//	Start returns
//
// Without Sync nothing is written to steps, and the parent only reads the report up to its end. The
// goroutine that forks stays on its thread until the child has ended, so that PR_SET_PDEATHSIG in
// the child means the life of this process.
//
// The package also sets attributes of commands of os/exec ([KillGroup], [Chroot]), for packages
// that make no system calls themselves.
//
// Sources: clone(2), clone3(2), pidfd_open(2), signal-safety(7), syscall.forkAndExecInChild of Go.
package program
