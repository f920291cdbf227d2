package userns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/program"
)

// sentFD is the number of the descriptor in the process that sends it, past those of its standard streams and pipes.
const sentFD = 100

// runReadOnly makes cmd execute this program from a read-only mount, and returns what has to stay open until it is started.
//
// A file of an image that names /proc/self/exe as its interpreter is executed as the builder's program. What that starts
// finds the program's file by way of /proc/PID/exe (CVE-2019-5736) and, as root of the namespace is the user outside, may
// change its mode, times and attributes, and its content as soon as nothing executes it. On a read-only mount it may not.
//
// The mount is attached nowhere, so that the file can be part of a build context all the same. An error says why there is
// none; cmd is then as it was, as it is where the mount that the program runs from is read-only already (nil, nil).
func runReadOnly(cmd *exec.Cmd, p plan) (*os.File, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(cmd.Path, &fs); err == nil && fs.Flags&unix.ST_RDONLY != 0 {
		return nil, nil //nolint:nilnil // documented: nothing has to stay open
	}
	tree, err := readOnlyProgram(p.newUserNS())
	if err != nil {
		return nil, fmt.Errorf("mounting the program read-only: %w", err)
	}
	cmd.Path = "/proc/self/fd/" + strconv.Itoa(int(tree.Fd()))
	return tree, nil
}

// readOnlyProgram returns this program's file on a read-only mount. The mount is made in a mount namespace, and unless this
// process may do without in a user namespace, by a child that sends it (unix(7), SCM_RIGHTS).
func readOnlyProgram(newUserNS bool) (*os.File, error) {
	var running, found unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &running); err != nil {
		return nil, &os.PathError{Op: "stat", Path: "/proc/self/exe", Err: err}
	}

	// By its name: the child has other mounts than this process, in which the magic link leads to no place (EINVAL).
	name, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, err
	}

	ours, theirs, err := socketpair()
	if err != nil {
		return nil, err
	}
	defer ours.Close()

	flags := uintptr(unix.CLONE_NEWNS)
	if newUserNS {
		flags |= unix.CLONE_NEWUSER
	}
	_, err = sendReadOnly(name, theirs).Start(flags) // it ends by itself
	_ = theirs.Close()                               // the child has its own copy, or there is none
	if err != nil {
		return nil, err
	}

	tree, err := receive(ours, name)
	if err != nil {
		return nil, err
	}
	if err := unix.Fstat(int(tree.Fd()), &found); err != nil || found.Dev != running.Dev || found.Ino != running.Ino {
		return nil, errors.Join(fmt.Errorf("%s is another file by now", name), tree.Close())
	}

	return tree, nil
}

// sendReadOnly is the child's program: it clones the mount of the file name, makes the clone read-only and sends it.
func sendReadOnly(name string, socket *os.File) *program.Program {
	p := new(program.Program)
	tree := p.Reg()
	p.Do("cloning the mount of "+name, unix.SYS_OPEN_TREE, unix.AT_FDCWD, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC).Into(tree)
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	p.Do("making it read-only", unix.SYS_MOUNT_SETATTR, tree, "", unix.AT_EMPTY_PATH, program.Pointer(attr), unix.MOUNT_ATTR_SIZE_VER0)
	p.Do("numbering it", unix.SYS_DUP3, tree, sentFD, unix.O_CLOEXEC)
	message := newRightsMessage(unix.UnixRights(sentFD))
	p.Keep(message)
	p.Do("sending it", unix.SYS_SENDMSG, socket, program.Pointer(&message.header), 0)
	p.Do("", unix.SYS_EXIT_GROUP, 0)
	return p
}

// rightsMessage is a message of one byte and a control message, with all that its header points to.
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

// receive returns the descriptor that a message on socket brings.
func receive(socket *os.File, name string) (*os.File, error) {
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(socket.Fd()), make([]byte, 1), control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("recvmsg", err)
	}

	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return nil, errors.New("no descriptor came")
	}

	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.New("no descriptor came")
	}
	return os.NewFile(uintptr(fds[0]), name), nil
}
