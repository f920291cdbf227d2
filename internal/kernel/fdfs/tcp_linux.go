package fdfs

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// TCPCount says how many bytes a TCP connection has transferred.
type TCPCount struct {
	// Received is the number of bytes that the kernel has received. It is also 0 if the kernel does
	// not count (before Linux 4.1, gVisor).
	Received uint64
	Unread   uint64 // bytes of Received that the program has not read
	Acked    uint64 // bytes that were sent and that the peer has acknowledged
}

// CountTCP counts the bytes of a connection, which is a *net.TCPConn or a *tls.Conn over a
// *net.TCPConn. The error is net.ErrClosed if the connection was closed, and errors.ErrUnsupported
// for any other connection.
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
