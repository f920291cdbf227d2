package sandbox

import "golang.org/x/sys/unix"

// Filter is a compiled seccomp profile. It may be used by many processes.
type Filter struct{ code []unix.SockFilter }

func (g *program) seccomp() error { return nil }
