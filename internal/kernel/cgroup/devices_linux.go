package cgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"unsafe"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// deviceHierarchy is the controller of version 1 that decides which devices may be opened.
const deviceHierarchy = "devices"

// Device is the number of a device node. Example: {Major: 1, Minor: 3} is /dev/null.
type Device struct {
	Block bool
	Major uint32
	Minor uint32
	All   bool // all minor numbers
}

// DeviceOf returns the number of the device node f; ok is false if f is not a device node.
func DeviceOf(f *os.File) (d Device, ok bool) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return d, false
	}
	kind := st.Mode & unix.S_IFMT
	d = Device{Block: kind == unix.S_IFBLK, Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}
	return d, kind == unix.S_IFBLK || kind == unix.S_IFCHR
}

// ownDevices returns the devices that every process may open: null, zero, full, random, urandom,
// tty, ptmx and the terminals of a devpts (Documentation/admin-guide/devices.txt).
func ownDevices() []Device {
	return []Device{
		{Major: 1, Minor: 3},
		{Major: 1, Minor: 5},
		{Major: 1, Minor: 7},
		{Major: 1, Minor: 8},
		{Major: 1, Minor: 9},
		{Major: 5, Minor: 0},
		{Major: 5, Minor: 2},
		{Major: 136, All: true},
	}
}

// holdDevices restricts the processes of the group to the devices of the list. The processes can
// make no device nodes. The kernel allows the restriction to real root only.
func (g *Group) holdDevices(list []Device) error {
	if dir, ok := g.paths[deviceHierarchy]; ok {
		return holdDevicesV1(dir, list)
	}
	if dir, ok := g.paths[""]; ok {
		return holdDevicesV2(dir, list)
	}
	return errors.ErrUnsupported
}

// holdDevicesV1 writes the rules of cgroup-v1/devices.rst. A device that the parent cgroup may not
// use is left out.
func holdDevicesV1(dir string, list []Device) error {
	if err := cgroups.WriteFile(dir, "devices.deny", "a"); err != nil {
		return fmt.Errorf("restricting the devices of cgroup %s: %w", dir, underlying(err))
	}

	for _, d := range list {
		kind, minor := "c", fmt.Sprint(d.Minor)
		if d.Block {
			kind = "b"
		}
		if d.All {
			minor = "*"
		}
		err := cgroups.WriteFile(dir, "devices.allow", fmt.Sprintf("%s %d:%s rw", kind, d.Major, minor))
		if err != nil && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("giving cgroup %s a device: %w", dir, underlying(err))
		}
	}

	return nil
}

// holdDevicesV2 attaches a BPF program that the kernel runs for each access to a device
// (cgroup-v2.rst, "Device controller"). The program is removed with the cgroup.
func holdDevicesV2(dir string, list []Device) error {
	program, err := loadDeviceFilter(deviceFilter(list))
	if err != nil {
		return err
	}
	defer unix.Close(program)

	f, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return fmt.Errorf("restricting the devices of a cgroup: %w", err)
	}
	defer f.Close()

	attach := struct{ cgroup, program, kind, flags uint32 }{
		uint32(f.Fd()), uint32(program), unix.BPF_CGROUP_DEVICE, unix.BPF_F_ALLOW_MULTI,
	}
	_, err = bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&attach), unsafe.Sizeof(attach))
	runtime.KeepAlive(f)
	if err != nil {
		return fmt.Errorf("attaching the device filter to cgroup %s: %w", dir, err)
	}
	return nil
}

// deviceFilter returns a BPF program for a struct bpf_cgroup_dev_ctx (include/uapi/linux/bpf.h): a
// word with the kind of the device in the lower half and the kind of access in the upper half, the
// major number, the minor number. The program returns 1 for a device of the list, and 0 for other
// devices and for mknod.
func deviceFilter(list []Device) []uint64 {
	const (
		load, move, and, shift = 0x61, 0xbf, 0x54, 0x74 // ldx w, mov64 reg, and32 imm, rsh32 imm
		unlessEqual, ifAny     = 0x55, 0x45             // jne imm, jset imm
		set, exit              = 0xb7, 0x95             // mov64 imm
	)

	op := func(code, dst, src uint8, off int16, imm uint32) uint64 {
		return uint64(code) | uint64(dst|src<<4)<<8 | uint64(uint16(off))<<16 | uint64(imm)<<32
	}
	var rules []uint64
	for _, d := range list {
		kind := uint32(unix.BPF_DEVCG_DEV_CHAR)
		if d.Block {
			kind = unix.BPF_DEVCG_DEV_BLOCK
		}
		yes := []uint64{op(set, 0, 0, 0, 1), op(exit, 0, 0, 0, 0)}
		if !d.All {
			yes = append([]uint64{op(unlessEqual, 5, 0, 2, d.Minor)}, yes...)
		}
		rules = append(rules, op(unlessEqual, 2, 0, int16(len(yes)+1), kind), op(unlessEqual, 4, 0, int16(len(yes)), d.Major))
		rules = append(rules, yes...)
	}

	program := []uint64{
		op(load, 2, 1, 0, 0), op(move, 3, 2, 0, 0), op(shift, 3, 0, 0, 16), op(and, 2, 0, 0, 0xffff),
		op(load, 4, 1, 4, 0), op(load, 5, 1, 8, 0),
		op(ifAny, 3, 0, int16(len(rules)), unix.BPF_DEVCG_ACC_MKNOD),
	}

	return append(append(program, rules...), op(set, 0, 0, 0, 0), op(exit, 0, 0, 0, 0))
}

// loadDeviceFilter loads a program into the kernel and returns its descriptor.
func loadDeviceFilter(program []uint64) (int, error) {
	code := make([]byte, 8*len(program))
	for i, op := range program {
		binary.NativeEndian.PutUint64(code[8*i:], op)
	}
	license := []byte("Apache-2.0\x00")
	load := struct {
		kind, count      uint32
		code, license    uint64
		logLevel, logLen uint32
		log              uint64
		version, flags   uint32
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(program)),
		code: uint64(uintptr(unsafe.Pointer(&code[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}

	fd, err := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&load), unsafe.Sizeof(load))
	runtime.KeepAlive(code)
	runtime.KeepAlive(license)
	if err != nil {
		return -1, fmt.Errorf("loading a device filter: %w", err)
	}

	return fd, nil
}

func bpf(command int, attr unsafe.Pointer, size uintptr) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(attr), size)
	if errno != 0 {
		return -1, os.NewSyscallError("bpf", errno)
	}
	return int(r), nil
}
