package cgroup

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHoldDevices: a process in a group that is held to /dev/null opens that and nothing else,
// whichever version holds it.
func TestHoldDevices(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs real root: hack/test.sh runs it as root")
	}
	null := []Device{{Major: 1, Minor: 3}}
	ran := false
	for name, hold := range map[string]func(dir string, list []Device) error{"devices": holdDevicesV1, "unified": holdDevicesV2, ".": holdDevicesV2} {
		dir := filepath.Join(root, name, "rbuild-test-devices")
		if _, err := os.Stat(filepath.Join(root, name, fileProcs)); err != nil {
			continue // no such hierarchy on this machine
		}

		ran = true
		t.Run(name, func(t *testing.T) {
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Skip("no cgroup can be made here: ", err)
			}
			t.Cleanup(func() { _ = os.Remove(dir) })
			if err := hold(dir, null); err != nil {
				t.Fatal(err)
			}
			if out, err := inGroup(dir, "head -c 1 /dev/null && echo opened"); err != nil || out != "opened" {
				t.Errorf("/dev/null: %s %v", out, err)
			}
			if out, err := inGroup(dir, "head -c 1 /dev/zero"); err == nil || !strings.Contains(out, "Operation not permitted") {
				t.Errorf("/dev/zero: %q %v", out, err)
			}
			if out, err := inGroup(dir, "mknod /dev/rbuild-test-null c 1 3"); err == nil {
				t.Errorf("a device was made: %s", out)
			}
			_ = os.Remove("/dev/rbuild-test-null")
		})
	}

	if !ran {
		t.Skip("no hierarchy of cgroups that holds devices is mounted at " + root)
	}
}

// inGroup runs a shell command in the cgroup dir and returns its output.
func inGroup(dir, command string) (string, error) {
	cmd := exec.Command("sh", "-c", "echo $$ > "+dir+"/"+fileProcs+"; "+command)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// TestDeviceFilter: the program ends in a refusal, and each rule leads past itself.
func TestDeviceFilter(t *testing.T) {
	program := deviceFilter(append(ownDevices(), Device{Block: true, Major: 7, Minor: 1}))
	if n := len(program); n != 7+7*5+4+5+2 {
		t.Errorf("%d instructions", n)
	}
	for _, tc := range []struct {
		kind, access, major, minor uint32
		want                       uint64
	}{
		{unix.BPF_DEVCG_DEV_CHAR, unix.BPF_DEVCG_ACC_READ, 1, 3, 1},
		{unix.BPF_DEVCG_DEV_CHAR, unix.BPF_DEVCG_ACC_READ | unix.BPF_DEVCG_ACC_WRITE, 136, 77, 1},
		{unix.BPF_DEVCG_DEV_CHAR, unix.BPF_DEVCG_ACC_MKNOD, 1, 3, 0},
		{unix.BPF_DEVCG_DEV_CHAR, unix.BPF_DEVCG_ACC_READ, 1, 1, 0},
		{unix.BPF_DEVCG_DEV_BLOCK, unix.BPF_DEVCG_ACC_READ, 1, 3, 0},
		{unix.BPF_DEVCG_DEV_BLOCK, unix.BPF_DEVCG_ACC_WRITE, 7, 1, 1},
		{unix.BPF_DEVCG_DEV_BLOCK, unix.BPF_DEVCG_ACC_WRITE, 7, 0, 0},
	} {
		if got := interpret(t, program, [3]uint32{tc.kind | tc.access<<16, tc.major, tc.minor}); got != tc.want {
			t.Errorf("%+v: %d", tc, got)
		}
	}
}

// interpret runs a program of deviceFilter.
func interpret(t *testing.T, program []uint64, ctx [3]uint32) uint64 {
	t.Helper()
	var r [11]uint64
	for pc := 0; pc < len(program); pc++ {
		op := program[pc]
		code, dst, src, off, imm := uint8(op), uint8(op>>8)&15, uint8(op>>12)&15, int16(op>>16), op>>32
		switch code {
		case 0x61:
			r[dst] = uint64(ctx[off/4])
		case 0xbf:
			r[dst] = r[src]
		case 0x54:
			r[dst] &= imm
		case 0x74:
			r[dst] >>= imm
		case 0xb7:
			r[dst] = imm
		case 0x55:
			if r[dst] != imm {
				pc += int(off)
			}
		case 0x45:
			if r[dst]&imm != 0 {
				pc += int(off)
			}
		case 0x95:
			return r[0]
		default:
			t.Fatalf("instruction %#x", code)
		}
	}

	t.Fatal("the program has no end")

	return 0
}
