package userns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// initUserNS is the inode number of the initial user namespace: PROC_USER_INIT_INO of the kernel's
// proc_ns.h. The ID map is not enough to recognize the namespace: root can give a nested namespace
// the full map, but mounts in the namespace still have the restrictions of a user namespace.
const initUserNS = 0xEFFFFFFD

// readStanding describes this process.
func readStanding() (standing, error) {
	uids, gids, err := ownMaps()
	if err != nil {
		return standing{}, err
	}
	s := standing{UID: os.Geteuid(), GID: os.Getegid(), UIDMap: uids, GIDMap: gids}

	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/user", &st); err != nil {
		return s, noUserNS(err)
	}

	s.Initial = st.Ino == initUserNS
	caps, err := effectiveCaps()
	if err != nil {
		return s, err
	}

	s.SysAdmin = caps&(1<<unix.CAP_SYS_ADMIN) != 0
	s.SetIDs = caps&(1<<unix.CAP_SETUID) != 0 && caps&(1<<unix.CAP_SETGID) != 0
	return s, nil
}

func noUserNS(err error) error {
	return &Error{
		Reason: NoKernel,
		Err:    err,
		Detail: fmt.Sprintf("reading /proc/self/ns/user: %v", err),
		Fix:    "mount /proc, or use a kernel with CONFIG_USER_NS",
	}
}

func ownMaps() (uids, gids []IDMap, err error) {
	if uids, err = readMap("/proc/self/uid_map"); err != nil {
		return nil, nil, err
	}
	if gids, err = readMap("/proc/self/gid_map"); err != nil {
		return nil, nil, err
	}
	return uids, gids, nil
}

func readMap(path string) ([]IDMap, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, noUserNS(err)
	}
	if err != nil {
		return nil, err
	}
	return parseIDMap(string(text))
}

func effectiveCaps() (uint64, error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return 0, os.NewSyscallError("capget", err)
	}
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective), nil
}

// lastCap returns the number of the highest capability of the kernel.
func lastCap() (uintptr, error) {
	text, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 6)
	if err != nil {
		return 0, fmt.Errorf("parsing /proc/sys/kernel/cap_last_cap: %w", err)
	}
	return uintptr(n), nil
}

// readSituation reads the facts that explain a refusal. A fact that cannot be read stays unknown.
func readSituation() situation {
	s := situation{UID: os.Getuid(), EUID: os.Geteuid()}
	line := func(path string) string {
		text, _ := os.ReadFile(path)
		return strings.TrimSpace(string(text))
	}

	for status := range strings.Lines(line("/proc/self/status")) {
		key, value, _ := strings.Cut(status, ":")
		switch value = strings.TrimSpace(value); key {
		case "NoNewPrivs":
			s.NoNewPrivs = value == "1"
		case "CapBnd":
			const needed = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
			caps, err := strconv.ParseUint(value, 16, 64)
			s.NoSetIDs = err == nil && caps&needed != needed
		case "Seccomp":
			s.Seccomp = value == "2"
		}
	}

	uids, err := readMap("/proc/self/uid_map")
	s.OwnIDs = err == nil && count(uids) != initMap
	s.MaxNamespaces = line("/proc/sys/user/max_user_namespaces")
	s.Clone = line("/proc/sys/kernel/unprivileged_userns_clone")
	s.AppArmor = line("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
	if label := line("/proc/self/attr/apparmor/current"); label != "unconfined" {
		s.Confined = label
	}

	return s
}

// helperDirs returns the directories with setuid programs and programs with file capabilities.
// NixOS and Guix have wrappers in directories of their own. PATH is not used: a program that maps
// IDs must be the system's.
func helperDirs() []string {
	return []string{
		"/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin",
		"/run/wrappers/bin", "/run/privileged/bin", "/run/setuid-programs", "/run/current-system/sw/bin",
	}
}

// findTool returns the path of the first program with the name that has the setuid bit or file
// capabilities, else the path of the first program with the name, else "".
func findTool(dirs []string, name string) string {
	found := ""
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o111 == 0 {
			continue
		}
		if st.Mode&unix.S_ISUID != 0 || hasFileCaps(path) {
			return path
		}
		if found == "" {
			found = path
		}
	}

	return found
}

func hasFileCaps(path string) bool {
	n, _ := unix.Getxattr(path, "security.capability", nil) // -1 after an error
	return n > 0
}

// readDelegation reads the login name and the subordinate IDs of the user, and finds the programs
// that map them.
func readDelegation(ctx context.Context, s standing, dirs []string) (delegation, error) {
	d := delegation{UIDTool: findTool(dirs, "newuidmap"), GIDTool: findTool(dirs, "newgidmap")}
	var err error
	if d.User, err = loginName(ctx, s.UID, dirs); err != nil {
		return d, err
	}
	if d.UIDs, err = readSubids("/etc/subuid", d.User, s.UID); err != nil {
		return d, err
	}
	if d.GIDs, err = readSubids("/etc/subgid", d.User, s.UID); err != nil {
		return d, err
	}

	if len(d.UIDs.Mine) == 0 || len(d.GIDs.Mine) == 0 {
		askGetsubids(ctx, &d, findTool(dirs, "getsubids"))
	}
	return d, nil
}

func readSubids(path, name string, uid int) (subids, error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return subids{}, fmt.Errorf("reading subordinate ids: %w", err)
	}
	return parseSubids(string(text), name, uid), nil
}

// askGetsubids runs getsubids(1), which asks the provider for "subid" in /etc/nsswitch.conf, for
// example sssd. Only libsubid can load a provider.
func askGetsubids(ctx context.Context, d *delegation, tool string) {
	if tool == "" {
		return
	}
	if len(d.UIDs.Mine) == 0 {
		d.UIDs.Mine = getsubids(ctx, tool, d.User)
	}
	if len(d.GIDs.Mine) == 0 {
		d.GIDs.Mine = getsubids(ctx, tool, "-g", d.User)
	}
}

// getsubids returns the ranges that the program tool prints, and no ranges if the program fails.
func getsubids(ctx context.Context, tool string, args ...string) []idRange {
	out, err := run(ctx, tool, args...)
	if err != nil {
		return nil
	}
	return parseGetsubids(out)
}

// loginName returns the login name of the uid from /etc/passwd, or from getent(1), which also asks
// directory services.
func loginName(ctx context.Context, uid int, dirs []string) (string, error) {
	text, err := os.ReadFile("/etc/passwd")
	name := nameIn(string(text), uid)
	if tool := findTool(dirs, "getent"); name == "" && tool != "" {
		var out string
		out, err = run(ctx, tool, "passwd", strconv.Itoa(uid))
		name = nameIn(out, uid)
	}
	if name != "" {
		return name, nil
	}

	return "", &Error{
		Reason: NoUser,
		Err:    err,
		Detail: fmt.Sprintf("uid %d has no login name, and newuidmap maps ids only for those who have one", uid),
		Fix:    fmt.Sprintf("give uid %d a line in /etc/passwd, or run as a user that has one", uid),
	}
}

// nameIn returns the login name of the uid in a text in the format of passwd(5).
func nameIn(text string, uid int) string {
	want := strconv.Itoa(uid)
	for line := range strings.Lines(text) {
		if f := strings.SplitN(line, ":", 4); len(f) == 4 && f[2] == want {
			return f[0]
		}
	}
	return ""
}

// run runs a helper with an empty environment and returns its output, after an error its standard
// error. A directory service that works answers within the limit of ten seconds.
func run(ctx context.Context, path string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var out, diag bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{}
	cmd.Stdout = &out
	cmd.Stderr = &diag
	if err := cmd.Run(); err != nil {
		return diag.String(), fmt.Errorf("running %s: %w", path, err)
	}
	return out.String(), nil
}
