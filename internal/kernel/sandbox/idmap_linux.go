package sandbox

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/program"
)

// IDRange is a range of user or group IDs: Count IDs from First on. Example: {0, 1000} are the IDs
// 0 to 999.
type IDRange struct{ First, Count uint32 }

// idMaps are the identity maps of the nested user namespace, as text for /proc/PID/uid_map.
type idMaps struct {
	uid, gid    string
	fixedGroups bool // the kernel forbids setgroups(2): the owner mapped its one ID (user_namespaces(7), setgroups)
}

// readIDMaps returns the identity maps of the IDs of this process that are in the ranges. No
// ranges: all IDs.
func readIDMaps(uids, gids []IDRange) (idMaps, error) {
	uid, err := readIDMap("/proc/self/uid_map", uids)
	if err != nil {
		return idMaps{}, err
	}

	gid, err := readIDMap("/proc/self/gid_map", gids)
	if err != nil {
		return idMaps{}, err
	}

	setgroups, err := os.ReadFile("/proc/self/setgroups")
	if err != nil {
		return idMaps{}, fmt.Errorf("reading whether groups can be set: %w", err)
	}
	return idMaps{uid, gid, strings.TrimSpace(string(setgroups)) == "deny"}, nil
}

func readIDMap(file string, within []IDRange) (string, error) {
	own, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("reading the id map: %w", err)
	}

	text, err := identity(string(own), within)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", file, err)
	}
	if len(within) > 0 && !has(text, 0) {
		return "", errors.New("starting a process: 0 is not among its ids")
	}
	return text, nil
}

// identity maps the IDs of a map (user_namespaces(7)) that are in the ranges to themselves. No
// ranges: all IDs. A line may not reach across two lines of the parent's map (EPERM), so each
// extent stays within an extent of the map.
func identity(text string, within []IDRange) (string, error) {
	if len(within) == 0 {
		within = []IDRange{{0, math.MaxUint32}}
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			return "", fmt.Errorf("%q is not an extent", line)
		}

		first, err1 := strconv.ParseUint(fields[0], 10, 32)
		count, err2 := strconv.ParseUint(fields[2], 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return "", fmt.Errorf("%q is not an extent: %w", line, err)
		}
		for _, r := range within {
			start, end := max(first, uint64(r.First)), min(first+count, uint64(r.First)+uint64(r.Count))
			if start < end {
				fmt.Fprintln(&b, start, start, end-start)
			}
		}
	}

	return b.String(), nil
}

// has reports whether id is in the map text.
func has(text string, id uint64) bool {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue
		}
		first, err1 := strconv.ParseUint(fields[0], 10, 64)
		count, err2 := strconv.ParseUint(fields[2], 10, 64)
		if err1 == nil && err2 == nil && id >= first && id-first < count {
			return true
		}
	}

	return false
}

// write writes the maps of a forked child that waits for them.
func (m idMaps) write(child *program.Child) error {
	dir, err := child.ProcDir()
	if err != nil {
		return err
	}
	for file, text := range map[string]string{"/uid_map": m.uid, "/gid_map": m.gid} {
		if err := writeOnce(dir+file, text); err != nil {
			return fmt.Errorf("mapping the ids of the sandbox: %w", err)
		}
	}
	return nil
}

// writeInside writes the maps of a child in a second, nested user namespace. The kernel takes these
// maps only from a process in the parent namespace, the first one (user_namespaces(7)). The caller
// has several threads and cannot enter a user namespace, so a forked process enters and writes.
func (m idMaps) writeInside(child *program.Child) error {
	dir, err := child.ProcDir()
	if err != nil {
		return err
	}

	inner, err := os.Open(dir + "/ns/user")
	if err != nil {
		return err
	}
	defer inner.Close()

	fd, err := unix.IoctlRetInt(int(inner.Fd()), unix.NS_GET_PARENT)
	if err != nil {
		return os.NewSyscallError("ioctl NS_GET_PARENT", err)
	}

	outer := os.NewFile(uintptr(fd), "the user namespace of the sandbox")
	defer outer.Close()

	p := new(program.Program)
	p.Do("entering the user namespace of the sandbox", unix.SYS_SETNS, outer, unix.CLONE_NEWUSER)
	for _, f := range [][2]string{{dir + "/uid_map", m.uid}, {dir + "/gid_map", m.gid}} {
		file := p.Reg()
		p.Do("opening "+f[0], unix.SYS_OPENAT, unix.AT_FDCWD, f[0], unix.O_WRONLY|unix.O_CLOEXEC, 0).Into(file)
		p.Do("mapping the ids behind the mounts", unix.SYS_WRITE, file, []byte(f[1]), len(f[1]))
	}

	p.Do("", unix.SYS_EXIT_GROUP, 0)
	writer, err := p.Start(0)
	if err != nil {
		return err
	}

	_, err = writer.Wait()

	return err
}

// writeOnce writes text with one write(2), which ID maps require. It uses no *os.File: the child
// waits meanwhile, and an *os.File would first be registered with the poller.
func writeOnce(path, text string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "opening", Path: path, Err: err}
	}

	_, err = unix.Write(fd, []byte(text))
	if e := unix.Close(fd); err == nil {
		err = e
	}
	if err != nil {
		return &os.PathError{Op: "writing", Path: path, Err: err}
	}
	return nil
}
