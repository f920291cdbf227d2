package sandbox

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/program"
)

// fprog is struct sock_fprog.
type fprog struct {
	length uint16
	code   *instruction
}

// seccomp installs the filter. The filter applies to all later operations: docker's profile allows
// them, and Filter.Check refuses a profile that does not.
func (l *launch) seccomp() error {
	filter := l.c.Filter
	if filter == nil {
		profile := l.c.Spec.Linux.Seccomp
		if profile == nil {
			return nil
		}
		var err error
		if filter, err = NewFilter(profile); err != nil {
			return err
		}
	}

	prog := &fprog{length: uint16(len(filter.code)), code: unsafe.SliceData(filter.code)}
	l.do("installing the seccomp filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, filter.flags, program.Pointer(prog))
	return nil
}

// Check returns an error if no process can start under the filter, or if the child could not report
// a failed start. noNewPrivs says whether the process will have no_new_privs: then it drops its
// capabilities before the filter is installed.
func (f *Filter) Check(noNewPrivs bool) error {
	needed := []struct {
		name string
		nr   uint32
		args []uint64
	}{
		{"execve", unix.SYS_EXECVE, nil},
		{"write", unix.SYS_WRITE, nil},
		{"exit_group", unix.SYS_EXIT_GROUP, nil},
		{"capset", unix.SYS_CAPSET, nil},
		{"prctl", unix.SYS_PRCTL, []uint64{unix.PR_SET_PDEATHSIG, uint64(unix.SIGKILL)}},
	}

	if noNewPrivs {
		needed = needed[:3]
	}
	for _, call := range needed {
		if result := f.run(call.nr, call.args...); result != retAllow && result != retLog {
			return fmt.Errorf("checking the seccomp profile: it does not allow %s, without which nothing can be started", call.name)
		}
	}

	return nil
}
