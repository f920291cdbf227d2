package sandbox

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/pkg/internal/linux"
)

// idMaps are the identity maps of the nested user namespace, as text for /proc/PID/uid_map.
type idMaps struct {
	uid, gid    string
	fixedGroups bool // supplementary groups cannot be set: one id is mapped, by its owner (user_namespaces(7), setgroups)
}

// readIDMaps derives them from the maps of this process. A line of the one may not reach across
// two lines of the other (EPERM), so the extents are the same.
func readIDMaps() (idMaps, error) {
	var m idMaps
	for file, text := range map[string]*string{"/proc/self/uid_map": &m.uid, "/proc/self/gid_map": &m.gid} {
		own, err := os.ReadFile(file)
		if err != nil {
			return m, fmt.Errorf("reading the id map: %w", err)
		}
		if *text, err = identity(string(own)); err != nil {
			return m, fmt.Errorf("reading %s: %w", file, err)
		}
	}
	setgroups, err := os.ReadFile("/proc/self/setgroups")
	if err != nil {
		return m, fmt.Errorf("reading whether groups can be set: %w", err)
	}
	m.fixedGroups = strings.TrimSpace(string(setgroups)) == "deny"
	return m, nil
}

// identity maps each extent of a map (user_namespaces(7)) to itself.
func identity(text string) (string, error) {
	var b strings.Builder
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			return "", fmt.Errorf("%q is not an extent", line)
		}
		fmt.Fprintln(&b, fields[0], fields[0], fields[2])
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

// write is the step of the parent between the fork and the set-up.
func (m idMaps) write(child *linux.Child) error {
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

// writeOnce writes text with one call, as these files demand. The process waits meanwhile, and
// an *os.File would first be offered to the poller.
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
