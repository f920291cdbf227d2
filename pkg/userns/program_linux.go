package userns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/program"
)

// sentFD is the number of the descriptor in the process that sends it. The number is higher than
// the numbers of the standard streams and pipes of the process.
const sentFD = 100

// runReadOnly makes cmd execute this program from a read-only mount. The caller closes the returned
// file after cmd has started. The file is nil if the program is on a read-only mount already. After
// an error cmd is unchanged.
//
// The reason: a file of an image can name /proc/self/exe as its interpreter, and the kernel then
// executes the builder's program. A process in the namespace finds the file of the program as
// /proc/PID/exe (CVE-2019-5736). Root of the namespace is the user outside, so the process could
// change the mode, times and attributes of the file, and the content as soon as no process executes
// it. On a read-only mount it cannot.
//
// The mount is attached nowhere, so the file of the program can still be a part of a build context.
func runReadOnly(cmd *exec.Cmd, p plan) (*os.File, error) {
	var fs unix.Statfs_t
	_ = unix.Statfs(cmd.Path, &fs) // after an error there are no flags
	if fs.Flags&unix.ST_RDONLY != 0 {
		return nil, nil //nolint:nilnil // documented: nothing has to stay open
	}
	tree, err := readOnlyProgram(p.newUserNS())
	if err != nil {
		return nil, fmt.Errorf("mounting the program read-only: %w", err)
	}
	cmd.Path = "/proc/self/fd/" + strconv.Itoa(int(tree.Fd()))
	return tree, nil
}

// readOnlyProgram returns the file of this program on a read-only mount. A child process makes the
// mount in its own mount namespace, and with newUserNS in its own user namespace, and sends the
// file (SCM_RIGHTS, unix(7)).
func readOnlyProgram(newUserNS bool) (*os.File, error) {
	var running, found unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &running); err != nil {
		return nil, &os.PathError{Op: "stat", Path: "/proc/self/exe", Err: err}
	}

	// The child opens the file by name: the magic link leads to a mount outside of the child's
	// mount namespace (EINVAL).
	name, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, err
	}

	ours, theirs, err := fdfs.SocketPair("builder", "launcher")
	if err != nil {
		return nil, err
	}
	defer ours.Close()

	flags := uintptr(unix.CLONE_NEWNS)
	if newUserNS {
		flags |= unix.CLONE_NEWUSER
	}
	_, err = sendReadOnly(name, theirs).Start(flags) // the child ends by itself
	_ = theirs.Close()                               // the child has a copy, or was not started
	if err != nil {
		return nil, err
	}

	tree, err := receive(ours, name)
	if err != nil {
		return nil, err
	}
	if err := unix.Fstat(int(tree.Fd()), &found); err != nil || found.Dev != running.Dev || found.Ino != running.Ino {
		return nil, errors.Join(fmt.Errorf("%s was replaced in the meantime", name), tree.Close())
	}

	return tree, nil
}

// sendReadOnly returns the system calls of the child: clone the mount of the file name, make the
// clone read-only and send it.
func sendReadOnly(name string, socket *os.File) *program.Program {
	p := new(program.Program)
	tree := p.Reg()
	p.Do("cloning the mount of "+name, unix.SYS_OPEN_TREE, unix.AT_FDCWD, name,
		unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC).Into(tree)
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	p.Do("making it read-only", unix.SYS_MOUNT_SETATTR, tree, "", unix.AT_EMPTY_PATH,
		program.Pointer(attr), unix.MOUNT_ATTR_SIZE_VER0)
	p.Do("numbering it", unix.SYS_DUP3, tree, sentFD, unix.O_CLOEXEC)
	message := newRightsMessage(unix.UnixRights(sentFD))
	p.Keep(message)
	p.Do("sending it", unix.SYS_SENDMSG, socket, program.Pointer(&message.header), 0)
	p.Do("", unix.SYS_EXIT_GROUP, 0)
	return p
}

// rightsMessage is a message of one byte with a control message. It holds all memory that the
// header points to.
type rightsMessage struct {
	header  unix.Msghdr
	vector  unix.Iovec
	data    [1]byte
	control []byte
}

func newRightsMessage(control []byte) *rightsMessage {
	m := &rightsMessage{control: control}
	m.vector.Base = &m.data[0]
	m.vector.SetLen(len(m.data))
	m.header.Iov = &m.vector
	m.header.SetIovlen(1)
	m.header.Control = unsafe.SliceData(m.control)
	m.header.SetControllen(len(m.control))
	return m
}

// receive returns the descriptor in a message on socket.
func receive(socket *os.File, name string) (*os.File, error) {
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(socket.Fd()), make([]byte, 1), control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("recvmsg", err)
	}

	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return nil, errors.New("the message has no descriptor")
	}

	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.New("the message has no descriptor")
	}
	return os.NewFile(uintptr(fds[0]), name), nil
}
