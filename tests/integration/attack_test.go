package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attackerName is the name under which a copy of this test binary is the program that a hostile RUN executes.
const attackerName = "attacker"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == attackerName {
		attacker(os.Args[1:])
		return
	}
	heedSignals()
	os.Exit(m.Run())
}

// attacker tries everything that a RUN must not be able to do, and prints HELD or BROKEN with the name of each. Its arguments
// are a file of the host with a canary, which it looks for by its path, and the canary from its end to its beginning, so
// that it finds itself nowhere. A third says that only the user namespace confines it.
func attacker(args []string) {
	if args[0] == "session" {
		fmt.Println(withKey(args[1], args[2:]))
		return
	}
	if args[0] == "marks" {
		for _, dir := range args[1:] {
			makeMarks(dir)
		}
		return
	}

	canary := []byte(args[1])
	slices.Reverse(canary)
	a := attack{file: args[0], canary: string(canary)}
	a.descriptors()
	a.processes()
	if a.confined = len(args) == 2; a.confined {
		a.systemCalls()
	} else {
		a.boundary()
	}

	a.files()
	a.canaries()
	fmt.Println("tried", a.tried)
}

type attack struct {
	file, canary string
	confined     bool // by capabilities, seccomp and masked paths too
	tried        int
}

// fails says whether what must fail did.
func (a *attack) fails(name string, err error) {
	a.tried++
	if err == nil {
		fmt.Println("BROKEN", name)
		return
	}
	fmt.Printf("HELD %s: %v\n", name, err)
}

// readOnly says whether what must fail did because it is on a read-only mount.
func (a *attack) readOnly(name string, err error) {
	if err != nil && !errors.Is(err, unix.EROFS) {
		fmt.Printf("BROKEN %s: %v\n", name, err)
	}
	a.fails(name, err)
}

// kernels says whether what must fail in a file system of the kernel's did. Only where nothing else confines the process
// may the reason be that a file is root's of the machine.
func (a *attack) kernels(name string, err error) {
	if a.confined && !errors.Is(err, fs.ErrNotExist) {
		a.readOnly(name, err)
		return
	}
	a.fails(name, err)
}

func call(nr uintptr, args ...uintptr) error {
	var six [6]uintptr
	copy(six[:], args)
	if _, _, errno := unix.RawSyscall6(nr, six[0], six[1], six[2], six[3], six[4], six[5]); errno != 0 {
		return errno
	}
	return nil
}

// texts are C strings that stay where they are while it is in use.
type texts [][]byte

func (t *texts) add(s string) uintptr {
	b := append([]byte(s), 0)
	*t = append(*t, b)
	return uintptr(unsafe.Pointer(&b[0]))
}

// systemCalls tries those that docker's profile or the capabilities refuse.
func (a *attack) systemCalls() {
	var all texts
	text := all.add
	defer runtime.KeepAlive(&all)

	here := uintptr(0xffffffffffffff9c) // AT_FDCWD
	for _, c := range []struct {
		name string
		err  error
	}{
		{"a user namespace", call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER)},
		{"a mount namespace", call(unix.SYS_UNSHARE, unix.CLONE_NEWNS)},
		{"a network namespace", call(unix.SYS_UNSHARE, unix.CLONE_NEWNET)},
		{"a cgroup namespace", call(unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)},
		{"clone3", call(unix.SYS_CLONE3, text(""), 0)},
		{"joining the own namespaces again", setns("/proc/self/ns/mnt")},
		{"joining the namespaces of init", setns("/proc/1/ns/user")},
		{"mounting", unix.Mount("none", "/mnt", "tmpfs", 0, "")},
		{"remounting", unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND, "")},
		{"unmounting", unix.Unmount("/proc/kcore", unix.MNT_DETACH)},
		{"unmounting /sys", unix.Unmount("/sys", unix.MNT_DETACH)},
		{"pivot_root", unix.PivotRoot("/", "/tmp")},
		{"fsopen", call(unix.SYS_FSOPEN, text("tmpfs"), 0)},
		{"open_tree", call(unix.SYS_OPEN_TREE, here, text("/"), unix.OPEN_TREE_CLONE)},
		{"move_mount", call(unix.SYS_MOVE_MOUNT, here, text("/dev"), here, text("/mnt"), 0)},
		{"mount_setattr", unix.MountSetattr(unix.AT_FDCWD, "/proc/sys", 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})},
		{"the keys", empty("/proc/keys")},
		{"the session keyring", keyctl(unix.KEYCTL_GET_KEYRING_ID, unix.KEY_SPEC_SESSION_KEYRING)},
		{"a new session keyring", keyctl(unix.KEYCTL_JOIN_SESSION_KEYRING, 0)},
		{"add_key", call(unix.SYS_ADD_KEY, text("user"), text("k"), text("v"), 1, 0xfffffffd)},
		{"request_key", call(unix.SYS_REQUEST_KEY, text("user"), text("k"), 0, 0)},
		{"bpf", call(unix.SYS_BPF, 0, 0, 0)},
		{"perf_event_open", call(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, 0, 0)},
		{"userfaultfd", call(unix.SYS_USERFAULTFD, 0)},
		{"io_uring", call(unix.SYS_IO_URING_SETUP, 1, text(strings.Repeat("\x00", 120)))},
		{"open_by_handle_at", call(unix.SYS_OPEN_BY_HANDLE_AT, here, text(strings.Repeat("\x00", 32)), 0)},
		{"fanotify", call(unix.SYS_FANOTIFY_INIT, 0, 0)},
		{"the kernel's log", call(unix.SYS_SYSLOG, 3, text(strings.Repeat("\x00", 100)), 100)},
		{"a module", call(unix.SYS_FINIT_MODULE, 0, text(""), 0)},
		{"kexec", call(unix.SYS_KEXEC_LOAD, 0, 0, 0, 0)},
		{"reboot", call(unix.SYS_REBOOT, unix.LINUX_REBOOT_MAGIC1, unix.LINUX_REBOOT_MAGIC2, unix.LINUX_REBOOT_CMD_CAD_OFF, 0)},
		{"swap", call(unix.SYS_SWAPOFF, text("/x"))},
		{"accounting", call(unix.SYS_ACCT, text("/x"))},
		{"the clock", call(unix.SYS_SETTIMEOFDAY, text(strings.Repeat("\x00", 16)), 0)},
		{"the host name", unix.Sethostname([]byte("attacker"))},
		{"a vsock", socket(unix.AF_VSOCK)},
		{"a packet filter of the host", unix.SetsockoptString(0, unix.SOL_IP, 64, "x")},
		{"capabilities to inherit", inherit()},
		{"more descriptors than the hard limit", unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 30, Max: 1 << 30})},
		{"another program's exe", unix.Prctl(unix.PR_SET_MM, unix.PR_SET_MM_EXE_FILE, 0, 0, 0)},
	} {
		a.fails(c.name, c.err)
	}

	a.otherID()
}

// otherID tries to become a user who is not mapped. Where real root builds every user is.
func (a *attack) otherID() {
	if text, err := os.ReadFile("/proc/self/uid_map"); err == nil && strings.Join(strings.Fields(string(text)), " ") == "0 0 4294967295" {
		return
	}
	a.fails("an id that is not mapped", unix.Setresuid(-1, 1<<30, -1))
}

// boundary tries what root of a user namespace may not do, with all of its capabilities.
func (a *attack) boundary() {
	var all texts
	text := all.add
	defer runtime.KeepAlive(&all)
	a.fails("a key of the user's session", a.readKeys())
	_ = unix.Mount("", "/sys", "", unix.MS_REMOUNT|unix.MS_BIND, "") // its files are root's of the machine all the same
	a.fails("a file system of the disk", unix.Mount("/dev/vda", "/mnt", "ext4", 0, ""))
	a.fails("a module", call(unix.SYS_FINIT_MODULE, 0, text(""), 0))
	a.fails("the kernel's log", call(unix.SYS_SYSLOG, 3, text(strings.Repeat("\x00", 100)), 100))
	a.fails("reboot", call(unix.SYS_REBOOT, unix.LINUX_REBOOT_MAGIC1, unix.LINUX_REBOOT_MAGIC2, unix.LINUX_REBOOT_CMD_CAD_OFF, 0))
	a.fails("the clock", call(unix.SYS_SETTIMEOFDAY, text(strings.Repeat("\x00", 16)), 0))
	a.otherID()
}

// withKey executes a command of the host's in a session whose keyring has a key.
func withKey(canary string, argv []string) error {
	if err := keyctl(unix.KEYCTL_JOIN_SESSION_KEYRING, 0); err != nil {
		return err
	}
	if _, err := unix.AddKey("user", "attacked", []byte(canary), unix.KEY_SPEC_SESSION_KEYRING); err != nil {
		return err
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return unix.Exec(path, argv, os.Environ())
}

// readKeys reads all keys that this process may see, listed or in its session, and fails if none is the canary.
func (a *attack) readKeys() error {
	list, err := os.ReadFile("/proc/keys")
	var serials []int
	for line := range strings.Lines(string(list)) {
		id, _, _ := strings.Cut(line, " ")
		if serial, err := strconv.ParseUint(id, 16, 31); err == nil {
			serials = append(serials, int(serial))
		}
	}

	session := make([]byte, 400)
	n, _ := unix.KeyctlBuffer(unix.KEYCTL_READ, unix.KEY_SPEC_SESSION_KEYRING, session, 0)
	for at := 0; at+4 <= min(n, len(session)); at += 4 {
		serials = append(serials, int(*(*int32)(unsafe.Pointer(&session[at]))))
	}
	err = errors.Join(err, fs.ErrNotExist)
	for _, serial := range serials {
		value := make([]byte, 1000)
		n, kerr := unix.KeyctlBuffer(unix.KEYCTL_READ, serial, value, 0)
		if kerr == nil && bytes.Contains(value[:min(n, len(value))], []byte(a.canary)) {
			return nil
		}
		err = errors.Join(err, kerr)
	}

	return err
}

func setns(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	return unix.Setns(fd, 0)
}

func keyctl(cmd, arg int) error {
	_, err := unix.KeyctlInt(cmd, arg, 0, 0, 0)
	return err
}

func socket(family int) error {
	_, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	return err
}

// inherit makes all permitted capabilities inheritable, and fails if one of them is already: that is what must not be.
func inherit() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return err
	}
	if data[0].Inheritable|data[1].Inheritable != 0 {
		return nil
	}
	return errors.New("none")
}

// files tries to change what is the kernel's or the host's.
func (a *attack) files() {
	for _, name := range []string{
		"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger", "/proc/bus/x", "/proc/irq/x",
		"/proc/sys/fs/binfmt_misc/register", "/sys/kernel/uevent_helper", "/sys/power/state", "/proc/self/uid_map", "/proc/self/setgroups",
		"/dev/mem", "/dev/kmsg", "/dev/fuse", "/dev/console", "/dev/sda", "/dev/vda", "/dev/net/tun", "/dev/tty",
	} {
		if strings.HasPrefix(name, "/sys/") || strings.HasPrefix(name, "/proc/sys") {
			a.kernels("writing "+name, write(name))
		} else {
			a.fails("writing "+name, write(name))
		}
	}

	a.masked()
	for name, dev := range map[string]int{"whiteout": 0, "memory": 1<<8 | 1, "disk": 8 << 8} {
		a.fails("making the device "+name, unix.Mknod("/attack-"+name, unix.S_IFCHR|0o666, dev))
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		// Where the device is the builder's root's, in a pod for instance, nothing but the mount refuses it.
		a.readOnly("the mode of /dev/"+name, unix.Chmod("/dev/"+name, 0))
		a.readOnly("the owner of /dev/"+name, unix.Chown("/dev/"+name, 1, 1))
	}

	if st, err := os.Stdin.Stat(); err == nil && st.Mode()&os.ModeNamedPipe == 0 {
		a.readOnly("the mode of standard input", unix.Fchmod(0, 0))
	}
	a.fails("trusted attributes", unix.Setxattr("/tmp", "trusted.overlay.opaque", []byte("y"), 0))
	for _, dir := range append(cgroups(), "/sys/kernel", "/sys/fs") {
		a.kernels("a directory in "+dir, os.Mkdir(dir+"/attack", 0o755))
		a.fails("leaving "+dir, write(dir+"/cgroup.procs"))
		a.fails("release_agent of "+dir, write(dir+"/release_agent"))
	}
}

// write writes to a file that is there. That its mount is read-only is said only of a file that is to be cut, where the
// mode refuses it too.
func write(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString("0")
	return err
}

// masked looks into what docker hides: an existing file is empty, a directory too.
func (a *attack) masked() {
	for _, name := range []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
		"/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	} {
		st, err := os.Stat(name)
		if err != nil || !a.confined {
			continue
		}
		if st.IsDir() {
			names, err := os.ReadDir(name)
			a.fails("listing "+name, errors.Join(err, map[bool]error{true: fs.ErrNotExist}[len(names) == 0]))
			continue
		}
		a.fails("reading "+name, empty(name))
		a.readOnly("the mode of what hides "+name, unix.Chmod(name, 0))
	}
}

// cgroups lists some directories of cgroup file systems, of each hierarchy the first.
func cgroups() []string {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*")
	dirs = slices.DeleteFunc(dirs, func(d string) bool {
		st, err := os.Stat(d)
		return err != nil || !st.IsDir()
	})
	return append(dirs[:min(len(dirs), 20)], "/sys/fs/cgroup")
}

// empty fails if a file has nothing in it.
func empty(name string) error {
	_, err := readSome(name)
	return err
}

func readSome(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, 16)
	n, err := f.Read(b)
	return b[:n], err // io.EOF: it is masked by /dev/null
}

// descriptors looks at what was left open, and at terminals.
func (a *attack) descriptors() {
	for fd := range 4096 {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil {
			continue
		}

		target, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		if fd > 2 {
			if !strings.HasPrefix(target, "anon_inode:") && !strings.HasPrefix(target, "/sys/fs/cgroup/") { // those of Go's runtime
				a.fails(fmt.Sprintf("descriptor %d: %s", fd, target), nil)
			}
			continue
		}

		if kind := st.Mode & unix.S_IFMT; kind == unix.S_IFDIR || kind == unix.S_IFREG {
			a.fails(fmt.Sprintf("descriptor %d is a file: %s", fd, target), nil)
		}
		a.fails(fmt.Sprintf("entering descriptor %d", fd), unix.Fchdir(fd))
		char := [1]byte{'x'}
		a.fails(fmt.Sprintf("typing into terminal %d", fd), call(unix.SYS_IOCTL, uintptr(fd), unix.TIOCSTI, uintptr(unsafe.Pointer(&char))))
		a.fails(fmt.Sprintf("taking terminal %d", fd), call(unix.SYS_IOCTL, uintptr(fd), unix.TIOCSCTTY, 1))
	}
}

// processes looks for any but those of the sandbox, and for what they say.
func (a *attack) processes() {
	found := 0
	for pid := 1; pid < 1<<16; pid++ {
		thread := fmt.Sprintf("/proc/self/task/%d", pid)
		if _, err := os.Stat(thread); err != nil && unix.Kill(pid, 0) == nil && pid != os.Getppid() {
			found++
		}
	}

	if found > 0 {
		a.fails("signalling a process that is not its own", nil)
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		for _, name := range []string{"environ", "cmdline"} {
			text, _ := os.ReadFile(dir + "/" + name)
			if bytes.Contains(text, []byte(a.canary)) {
				a.fails("finding the canary in "+dir+"/"+name, nil)
			}
		}
	}

	text, _ := os.ReadFile("/proc/self/mountinfo")
	if bytes.Contains(text, []byte(a.canary)) {
		a.fails("finding the canary in mountinfo", nil)
	}
	groups, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(groups)) {
		if strings.HasPrefix(line, "Groups:") {
			fmt.Println("groups", strings.TrimSpace(line[len("Groups:"):]))
		}
	}
}

// canaries looks for the file of the host by all ways out of the root that were open once.
func (a *attack) canaries() {
	up := strings.Repeat("../", 30)
	for _, way := range []string{"", "/" + up, "/proc/1/root", "/proc/self/root", "/proc/self/cwd/" + up, "/proc/1/cwd/" + up, "/proc/thread-self/root/" + up, "/dev/fd/0/" + up, "/dev/fd/1/" + up} {
		a.read("at "+way, way+a.file)
	}
	a.escape()
	a.read("after chroot", up+a.file)
}

func (a *attack) read(how, name string) {
	text, err := os.ReadFile(name)
	if err == nil && !bytes.Contains(text, []byte(a.canary)) {
		err = fs.ErrInvalid
	}
	a.fails("reading the canary "+how, err)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, err = f.WriteString("changed\n")
	}
	a.fails("writing the canary "+how, err)
}

// escape leaves a chroot, as a process with CAP_SYS_CHROOT can (chroot(2)): that must lead to the root of the sandbox.
func (a *attack) escape() {
	const dir = "/attack-chroot"
	if os.Mkdir(dir, 0o755) != nil || unix.Chroot(dir) != nil {
		return
	}
	for range 100 {
		_ = os.Chdir("..")
	}
	_ = unix.Chroot(".")
}

// makeMarks makes in dir all that has a meaning for overlayfs or a layer, as far as the kernel lets it.
func makeMarks(dir string) {
	say := func(what string, err error) { fmt.Println(what, dir, err) }
	say("directory", os.MkdirAll(dir, 0o755))
	for _, key := range []string{"opaque", "redirect", "metacopy", "origin", "whiteout", "overlay.opaque"} {
		for _, space := range []string{"user.overlay.", "trusted.overlay."} {
			say(space+key, unix.Lsetxattr(dir, space+key, []byte("y"), 0))
		}
	}

	say("whiteout over a file", unix.Mknod(dir+"/f", unix.S_IFCHR|0o666, 0))
	say("whiteout", unix.Mknod(dir+"/w", unix.S_IFCHR, 0))
	say("whiteout moved over a file", os.Rename(dir+"/w", dir+"/kept"))
	say("file", os.WriteFile(dir+"/v", []byte("x"), 0o644))
	say("whiteout left behind", unix.Renameat2(unix.AT_FDCWD, dir+"/v", unix.AT_FDCWD, dir+"/u", unix.RENAME_WHITEOUT))
	say("pipe", unix.Mkfifo(dir+"/pipe", 0o600))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: dir + "/sock"})
	}
	say("socket", err)
	say("file", os.WriteFile(dir+"/setuid", []byte("x"), 0o755))
	say("setuid", os.Chmod(dir+"/setuid", 0o755|os.ModeSetuid))
	say("owner", os.Chown(dir+"/setuid", 65533, 65533))
	value := "\x01\x00\x00\x02\xff\xff\xff\xff\x00\x00\x00\x00\xff\x01\x00\x00\x00\x00\x00\x00"
	say("capabilities", unix.Lsetxattr(dir+"/setuid", "security.capability", []byte(value), 0))
	say("times", unix.UtimesNanoAt(unix.AT_FDCWD, dir+"/setuid", []unix.Timespec{{Sec: -1 << 40}, {Sec: 1 << 40}}, 0))
}
