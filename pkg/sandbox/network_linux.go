package sandbox

import (
	"codeberg.org/rbuild/rbuild/pkg/internal/linux"
	"golang.org/x/sys/unix"
)

// ifreq is struct ifreq of netdevice(7) with flags.
type ifreq struct {
	name  [16]byte
	flags uint16
	_     [22]byte
}

// loopback brings up the loopback interface of a new network namespace.
func (g *program) loopback() {
	const what = "bringing up the loopback interface"
	sock := g.p.Reg()
	g.do(what, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0).Into(sock)
	req := &ifreq{flags: unix.IFF_UP}
	copy(req.name[:], "lo")
	g.do(what, unix.SYS_IOCTL, sock, unix.SIOCSIFFLAGS, linux.Pointer(req))
}

// helper is the program that connects a network namespace.
type helper struct{}

func (h *helper) stop() error { return nil }

func attachNetwork(path string, child *linux.Child) (*helper, error) { return nil, nil }
