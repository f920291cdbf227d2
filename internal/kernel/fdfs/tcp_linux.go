package fdfs

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// TCPCount says how much went through a TCP connection, in bytes.
type TCPCount struct {
	Received uint64 // by the kernel, read or not; 0 also where the kernel does not count (before Linux 4.1, gVisor)
	Acked    uint64 // of what was sent, how much the peer has
	Unread   uint64 // of what was received, how much nobody has read yet
}

// CountTCP counts what went through a connection: a *net.TCPConn, or TLS over one. The error is net.ErrClosed if the
// connection has been closed, and errors.ErrUnsupported if it is no TCP connection. The connection goes on.
func CountTCP(conn net.Conn) (c TCPCount, err error) {
	for {
		over, ok := conn.(*tls.Conn)
		if !ok {
			break
		}
		conn = over.NetConn()
	}

	sys, ok := conn.(syscall.Conn)
	if _, tcp := conn.(*net.TCPConn); !ok || !tcp {
		return c, errors.ErrUnsupported
	}

	raw, err := sys.SyscallConn()
	if err != nil {
		return c, err
	}

	var infoErr error
	err = raw.Control(func(fd uintptr) {
		var info *unix.TCPInfo
		if info, infoErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); infoErr != nil {
			return
		}
		unread, ioctlErr := unix.IoctlGetInt(int(fd), unix.SIOCINQ)
		if ioctlErr != nil {
			infoErr = ioctlErr
			return
		}
		c = TCPCount{Received: info.Bytes_received, Acked: info.Bytes_acked, Unread: uint64(max(unread, 0))}
	})

	switch {
	case err != nil:
		return c, net.ErrClosed
	case infoErr != nil:
		return c, os.NewSyscallError("getsockopt", infoErr)
	}

	return c, nil
}
