package sandbox

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/pkg/internal/linux"
)

// fprog is struct sock_fprog.
type fprog struct {
	length uint16
	code   *instruction
}

// seccomp installs the filter. Whoever adds operations after it must know that the filter may
// refuse them: docker's profile allows all that follow.
func (g *program) seccomp() error {
	filter := g.c.Filter
	if filter == nil {
		profile := g.c.Spec.Linux.Seccomp
		if profile == nil {
			return nil
		}
		var err error
		if filter, err = NewFilter(profile); err != nil {
			return err
		}
	}
	prog := &fprog{length: uint16(len(filter.code)), code: unsafe.SliceData(filter.code)}
	g.do("installing the seccomp filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, filter.flags, linux.Pointer(prog))
	return nil
}
