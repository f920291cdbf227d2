package sandbox_test

import (
	"os"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
)

// TestFilterThatForbidsTheStart wants a process that may neither start its program nor exit to end
// all the same.
func TestFilterThatForbidsTheStart(t *testing.T) {
	for name, action := range map[string]specs.LinuxSeccompAction{"error": specs.ActErrno, "kill": specs.ActKillThread} {
		t.Run(name, func(t *testing.T) {
			box := newBox(t)
			c := box.config("true")
			var err error
			c.Filter, err = sandbox.NewFilter(&specs.LinuxSeccomp{
				DefaultAction: action, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActAllow}},
			})
			check(t, err)
			if err := c.Filter.Check(true); err == nil || !strings.Contains(err.Error(), "execve") {
				t.Errorf("Check finds %v", err)
			}
			ended := make(chan sandbox.State, 1)
			go func() {
				state := sandbox.State{Signal: unix.SIGSYS} // where it could still say why
				if p, err := sandbox.Start(c); err == nil {
					state, _ = p.Wait()
				}
				ended <- state
			}()

			select {
			case state := <-ended:
				if state.Signal == 0 {
					t.Errorf("ended with %+v", state)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("it does not end")
			}
		})
	}
}

// TestOldProfile starts a program under a profile that does not know openat2, which the start needs
// before.
func TestOldProfile(t *testing.T) {
	box := newBox(t)
	c := box.config("echo ran")
	profile, err := sandbox.DefaultSeccomp(sandbox.DefaultCapabilities())
	check(t, err)
	for i, call := range profile.Syscalls {
		var names []string
		for _, name := range call.Names {
			if name != "openat2" && name != "close_range" && name != "setgroups" {
				names = append(names, name)
			}
		}
		profile.Syscalls[i].Names = names
	}

	c.Filter, err = sandbox.NewFilter(profile)
	check(t, err)
	check(t, c.Filter.Check(false))
	if out, _ := run(t, c); out != "ran\n" {
		t.Errorf("got %q", out)
	}
}

// TestSomeIDs gives a process some of the ids: files of others it sees as nobody's and cannot
// chown.
func TestSomeIDs(t *testing.T) {
	box := newBox(t)
	check(t, os.WriteFile(box.image+"/other", nil, 0o644))
	check(t, os.Chown(box.image+"/other", 500, 600))
	c := box.config("cat /proc/self/uid_map /proc/self/gid_map; stat -c %u:%g /other; busybox chown 7:7 /other || echo refused; touch /mine; busybox chown 99:7 /mine && stat -c %u:%g /mine")
	c.UIDs, c.GIDs = []sandbox.IDRange{{First: 0, Count: 100}}, []sandbox.IDRange{{First: 0, Count: 1}, {First: 7, Count: 1}}
	out, _ := run(t, c)
	out = strings.Join(strings.Fields(out), " ")
	if !strings.Contains(out, "65534:65534") || !strings.Contains(out, "refused") || !strings.Contains(out, "99:7") || !strings.Contains(out, " 7 7 1 ") {
		t.Errorf("got %q", out)
	}
	c.Spec.Process.User.UID = 100
	if _, _, err := tryRun(t, c); err == nil || !strings.Contains(err.Error(), "not in the ranges of IDs") {
		t.Errorf("another user: %v", err)
	}
	c.UIDs = []sandbox.IDRange{{First: 1, Count: 100}}
	if _, _, err := tryRun(t, c); err == nil || !strings.Contains(err.Error(), "0 is not among") {
		t.Errorf("without 0: %v", err)
	}
}

// TestCgroupPrivate looks at the name of the cgroup.
func TestCgroupPrivate(t *testing.T) {
	box := newBox(t)
	c := box.config("readlink /proc/self/ns/cgroup")
	own, err := os.Readlink("/proc/self/ns/cgroup")
	check(t, err)
	if out, _ := run(t, c); strings.TrimSpace(out) != own {
		t.Errorf("it is in %q, this process in %q", out, own)
	}
	c.CgroupNames = sandbox.CgroupPrivate
	if out, _ := run(t, c); strings.TrimSpace(out) == own || !strings.HasPrefix(out, "cgroup:") {
		t.Errorf("it is in %q", out)
	}
}

// TestMasks hides paths of the image, by links and where links lead out.
func TestMasks(t *testing.T) {
	box := newBox(t, "dir/", "dir/secret=x", "file=secret", "to-file->file", "out->../../../../../../etc/hostname", "up->/dir/..")
	for _, tc := range []struct{ path, script, want string }{
		{"/file", "wc -c < /file", "0"},
		{"/dir", "ls -A /dir | wc -l; touch /dir/x 2>/dev/null || echo ro", "0 ro"},
		{"/to-file", "wc -c < /file", "0"},
		{"/none", "ls /none 2>/dev/null || echo none", "none"},
		{"/out", "echo ran", "ran"},
		{"/proc/version", "wc -c < /proc/version", "0"},
		{"/up/file", "wc -c < /file", "0"},
	} {
		t.Run(tc.path, func(t *testing.T) {
			c := box.config(tc.script)
			c.Spec.Linux.MaskedPaths = append(c.Spec.Linux.MaskedPaths, tc.path)
			if out, _ := run(t, c); strings.Join(strings.Fields(out), " ") != tc.want {
				t.Errorf("got %q", out)
			}
		})
	}

	c := box.config("true")
	c.Spec.Linux.MaskedPaths = []string{"/proc/self/environ"}
	if _, _, err := tryRun(t, c); err == nil || !strings.Contains(err.Error(), "leads each process elsewhere") {
		t.Errorf("below /proc/self: %v", err)
	}
}

// TestLockMounts lets a process with all capabilities try to take away what hides paths. Without
// the lock it can.
func TestLockMounts(t *testing.T) {
	const script = `umount /proc/sys && echo unmounted
		mount -o remount,rw,bind /sys && echo writable
		umount /proc/interrupts && echo shown
		mount -t proc proc /mnt && echo fresh
		mount -t tmpfs none /mnt && echo tmpfs
		touch /kept; id -u`

	for _, lock := range []bool{false, true} {
		box := newBox(t, "mnt/")
		c := box.config(script)
		caps, err := sandbox.MergeCapabilities(nil, []string{"all"}, nil)
		check(t, err)
		c.Spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
		c.LockMounts = lock
		out, state := run(t, c)
		taken := strings.Contains(out, "unmounted") || strings.Contains(out, "writable") || strings.Contains(out, "shown") || strings.Contains(out, "fresh")
		if taken == lock || state.ExitCode != 0 || !strings.Contains(out, "tmpfs") || !strings.HasSuffix(out, "\n0\n") {
			t.Errorf("locked: %v: %q", lock, out)
		}
	}
}
