package userns

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The stages of Join that the kernel may refuse, as the user reads them.
const (
	stageGroups = "dropping supplementary groups in the user namespace"
	stageIDs    = "becoming root in the user namespace"
	stageCaps   = "setting capabilities in the user namespace"
	stageDeath  = "tying the builder to its launcher"
	stageMounts = "changing mount propagation in the builder's mount namespace"
	stageProc   = "mounting /proc in the builder's PID namespace"
)

// Join must be the first call of main. In the process that the user started it returns nil, nil at once. In the one
// that [Enter] started it waits until ids are mapped, becomes root on all threads, drops supplementary groups, empties
// the inheritable and ambient capability sets, makes all mounts slaves (what is mounted outside appears inside, never
// the other way), mounts a fresh /proc in a new PID namespace where the kernel lets it, and returns what it is.
//
// An error means that the launcher is gone, or that this process was not started by Enter: the caller has to exit. A
// step that is refused is reported by Enter, which ends this process.
func Join() (*State, error) {
	// The variable is the handshake's own, not configuration; it must not reach what the builder starts.
	value, ok := os.LookupEnv(joinEnv) //nolint:forbidigo // see above
	if !ok {
		return nil, nil //nolint:nilnil // documented: the launcher has no state
	}
	if err := os.Unsetenv(joinEnv); err != nil {
		return nil, fmt.Errorf("removing %s: %w", joinEnv, err)
	}

	socket, err := inherited(value)
	if err != nil {
		return nil, fmt.Errorf("joining the launcher's namespace: %w", err)
	}
	defer socket.Close()

	in := json.NewDecoder(socket)
	var h hello
	if err := in.Decode(&h); err != nil {
		return nil, fmt.Errorf("waiting for the launcher to map ids: %w", err)
	}

	state := &State{Mode: h.Mode, UID: h.UID, GID: h.GID, PIDNamespace: h.PID, Warnings: h.Warnings}
	r := report{}
	if err := becomeRoot(h, state); err != nil {
		r = reportOf(err)
	}
	if err := json.NewEncoder(socket).Encode(r); err != nil {
		return nil, fmt.Errorf("reporting to the launcher: %w", err)
	}

	// A launcher that died before the parent death signal was armed is noticed here: its end of the socket is closed.
	// After a refusal it explains and kills; two messages for one cause would help nobody.
	if err := in.Decode(&welcome{}); err != nil {
		return nil, fmt.Errorf("waiting for the launcher: %w", err)
	}

	return state, nil
}

// inherited opens the builder's end of the socket and sees to it that no child gets it.
func inherited(value string) (*os.File, error) {
	fd, err := strconv.Atoi(value)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s=%q is no descriptor", joinEnv, value)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, fmt.Errorf("%s=%q is no socket", joinEnv, value)
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "launcher"), nil
}

func reportOf(err error) report {
	r := report{Stage: "joining the namespace", Text: err.Error()}
	if refused, ok := errors.AsType[*refusal](err); ok {
		r.Stage, r.Text = refused.Stage, refused.Err.Error()
		if errno, ok := errors.AsType[syscall.Errno](refused.Err); ok {
			r.Errno = int(errno)
		}
	}
	return r
}

// becomeRoot does everything that comes after the maps.
func becomeRoot(h hello, state *State) error {
	steps := []struct {
		stage string
		do    func() error
	}{
		{stageGroups, func() error { return dropGroups(h) }},
		{stageIDs, setIDs},
		{stageCaps, func() error { return clearCaps(h.Mode) }},
		{stageDeath, dieWithLauncher},
		{stageMounts, func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "") }},
		{stageProc, func() (err error) {
			state.OuterProc, err = freshProc(h.PID)
			return err
		}},
	}

	for _, s := range steps {
		if err := s.do(); err != nil {
			return &refusal{Stage: s.stage, Err: err}
		}
	}

	var err error
	state.UIDMap, state.GIDMap, err = ownMaps()

	return err
}

// dropGroups leaves the groups of the user outside. With a single id the kernel forbids it for good: there they stay.
func dropGroups(h hello) error {
	if h.KeepGroups || h.Mode == Single {
		return nil
	}
	groups, err := syscall.Getgroups()
	if err != nil || len(groups) == 0 {
		return err
	}
	return syscall.Setgroups(nil)
}

// setIDs makes all threads uid and gid 0. With newuidmap they are it already, once the map is written.
func setIDs() error {
	if r, e, s := unix.Getresgid(); r|e|s != 0 {
		if err := syscall.Setresgid(0, 0, 0); err != nil {
			return err
		}
	}
	if r, e, s := unix.Getresuid(); r|e|s != 0 {
		return syscall.Setresuid(0, 0, 0)
	}
	return nil
}

// clearCaps empties the inheritable set, and the ambient set with it (capset(2)), which carried the capabilities over
// exec. What is executed by uid 0 gets its capabilities from being root; what gives up uid 0 must get none
// (CVE-2022-27651).
//
// Real root gives up CAP_MKNOD too, as the kernel refuses it to every other mode: no node is made for a device of an image,
// neither by this program nor by an overlay whose upper directory a RUN changes. Whiteouts need no capability (Linux 5.8).
// Programs that real root executes have it again: the library's helper that unpacks a layer ([State] of mode [Root]).
func clearCaps(mode Mode) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return err
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0
	if mode == Root {
		data[0].Effective &^= 1 << unix.CAP_MKNOD
		data[0].Permitted &^= 1 << unix.CAP_MKNOD
	}
	return allThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data[0])))
}

// dieWithLauncher arms the parent death signal, on all threads, because it is lost with the thread that asked for it.
// It comes after the changes of uids and capabilities, which disarm it (prctl(2)), and make the process undumpable,
// which would give /proc/self to the owner of the namespace outside.
func dieWithLauncher() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		return err
	}
	return allThreads(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL))
}

// freshProc mounts the /proc of the new PID namespace. Where parts of the one that is there are hidden by other mounts, as
// in most pods, the kernel refuses a mount that would show them (mount_too_revealing, EPERM; AppArmor's mount rules: EACCES).
// Then that one is kept: it shows the processes by their pids outside, /proc/self among them.
func freshProc(pid bool) (outer bool, err error) {
	if !pid {
		return false, nil
	}
	err = unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return true, nil
	}
	return false, err
}
