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

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// The steps of Join that the kernel can refuse, as parts of error messages.
const (
	stageGroups = "dropping supplementary groups in the user namespace"
	stageIDs    = "becoming root in the user namespace"
	stageCaps   = "setting capabilities in the user namespace"
	stageDeath  = "tying the builder to its launcher"
	stageMounts = "changing mount propagation in the builder's mount namespace"
	stageProc   = "mounting /proc in the builder's PID namespace"
)

// Join must be the first call of main. In the process that the user started, Join returns nil, nil
// at once. In the process that [Enter] started, Join waits until IDs are mapped and then:
//
//   - becomes root on all threads and drops the supplementary groups,
//   - empties the inheritable and ambient capability sets,
//   - makes all mounts slaves: mounts outside appear inside, but not the other way,
//   - mounts the /proc of a new PID namespace, if the kernel allows that,
//   - returns the State.
//
// After an error the caller must exit: the launcher is gone, or Enter did not start this process.
// If the kernel refuses a step, Enter returns the error and kills this process.
func Join() (*State, error) {
	// The variable is a part of the handshake. Children of the builder must not see it.
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

	// If the launcher died before the parent death signal was set, the socket is closed. After a
	// refusal the launcher prints the error and kills this process.
	if err := in.Decode(&welcome{}); err != nil {
		return nil, fmt.Errorf("waiting for the launcher: %w", err)
	}

	return state, nil
}

// inherited opens the builder's end of the socket, with close-on-exec.
func inherited(value string) (*os.File, error) {
	fd, err := strconv.Atoi(value)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s=%q is no descriptor", joinEnv, value)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, fmt.Errorf("%s=%q is no socket", joinEnv, value)
	}
	return fdfs.Inherited(fd, "launcher"), nil
}

// reportOf returns the report about the error of a step.
func reportOf(err error) report {
	refused, ok := errors.AsType[*refusal](err)
	if !ok {
		return report{Stage: "joining the namespace", Text: err.Error()}
	}

	r := report{Stage: refused.Stage, Text: refused.Err.Error()}
	if errno, ok := errors.AsType[syscall.Errno](refused.Err); ok {
		r.Errno = int(errno)
	}
	return r
}

// becomeRoot runs the steps after the ID maps are written, and fills state.
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

// dropGroups drops the supplementary groups. In the mode Single the kernel forbids setgroups(2), so
// the groups stay.
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

// setIDs gives all threads UID and GID 0, unless they have them since the ID maps were written.
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

// clearCaps empties the inheritable capability set, and with it the ambient set (capset(2)), which
// carried the capabilities over exec. A program that UID 0 executes has capabilities because of the
// UID. A program without UID 0 must have none (CVE-2022-27651).
//
// In the mode Root clearCaps drops CAP_MKNOD too, which the kernel refuses in user namespaces.
// Neither this program nor an overlay whose upper directory a RUN changes then creates device nodes
// of an image. Whiteouts need no capability since Linux 5.8. Programs that real root executes have
// CAP_MKNOD again, for example the helper of the storage library that unpacks layers.
func clearCaps(mode Mode) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return err
	}
	data[0].Inheritable = 0
	data[1].Inheritable = 0
	if mode == Root {
		data[0].Effective &^= 1 << unix.CAP_MKNOD
		data[0].Permitted &^= 1 << unix.CAP_MKNOD
	}
	return allThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data[0])))
}

// dieWithLauncher sets the parent death signal on all threads, because the signal setting ends with
// the thread that called prctl(2). It runs after the changes of UIDs and capabilities, which clear
// the setting. These changes also make the process undumpable, which gives /proc/self to the owner
// of the user namespace outside; dieWithLauncher makes the process dumpable again.
func dieWithLauncher() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		return err
	}
	return allThreads(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL))
}

// freshProc mounts the /proc of the new PID namespace. If other mounts hide parts of the current
// /proc, as in most pods, the kernel refuses a mount that would show the parts
// (mount_too_revealing: EPERM; mount rules of AppArmor: EACCES). The current /proc then stays,
// which shows processes, /proc/self too, by their PIDs outside.
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
