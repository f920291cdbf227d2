package sandbox_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
)

// changed lists what is in the upper directory.
func (b *box) changed() []string {
	var names []string
	check(b.tb, filepath.WalkDir(b.upper, func(path string, _ fs.DirEntry, err error) error {
		if path != b.upper {
			names = append(names, strings.TrimPrefix(path, b.upper))
		}
		return err
	}))
	return names
}

func TestMountsLeaveNoTrace(t *testing.T) {
	box := newBox(t)
	check(t, os.WriteFile(box.path("resolv"), []byte("nameserver 192.0.2.1\n"), 0o644))
	check(t, mkdirs(box.path("volume")))
	c := box.config("cat /etc/resolv.conf; ls /; ls /etc /srv/deep; touch /srv/deep/er/new; touch /made; rm -rf /etc /proc /sys 2>/dev/null; true")
	bind := []string{"rbind", "rw"}
	c.Spec.Mounts = append(
		c.Spec.Mounts,
		specs.Mount{Destination: "/etc/resolv.conf", Type: "bind", Source: box.path("resolv"), Options: bind},
		specs.Mount{Destination: "/etc/hostname", Type: "bind", Source: box.path("resolv"), Options: bind},
		specs.Mount{Destination: "/srv/deep/er", Type: "bind", Source: box.path("volume"), Options: bind},
	)

	out, _ := run(t, c)
	want := "nameserver 192.0.2.1\nbin\ndev\netc\nproc\nsrv\nsys\n/etc:\nhostname\nresolv.conf\n\n/srv/deep:\ner\n"
	if out != want {
		t.Error(cmp.Diff(want, out))
	}
	if got := box.changed(); !slices.Equal(got, []string{"/made"}) {
		t.Errorf("in the upper directory: %v", got)
	}
	if _, err := os.Stat(box.path("volume/new")); err != nil {
		t.Errorf("the volume was not written to: %v", err)
	}
}

// Each image here tries to lead a mount astray. The outcome is a mount inside, or an error.
func TestHostileTargets(t *testing.T) {
	tests := []struct {
		name    string
		entries []string
		script  string
		want    string
		fails   string
	}{
		{
			name: "proc leads out", entries: []string{"proc->../../../../../../OUT", "OUT/"},
			fails: "/proc: too many levels",
		},
		{
			name: "proc leads nowhere", entries: []string{"proc->/x/y/z"},
			fails: "/proc: too many levels",
		},
		{
			name: "resolv.conf leads nowhere", entries: []string{"etc/resolv.conf->/run/systemd/stub.conf", "run/"},
			script: "cat /etc/resolv.conf", want: "canary\n",
		},
		{
			name: "resolv.conf leads out", entries: []string{"etc/resolv.conf->../../../../../..OUT/canary"},
			script: "cat /etc/resolv.conf", want: "canary\n",
		},
		{name: "resolv.conf leads into proc", entries: []string{"etc/resolv.conf->/proc/self/fd/5"}, fails: "/etc/resolv.conf"},
		{name: "resolv.conf leads into sys", entries: []string{"etc/resolv.conf->/sys/kernel/uevent_helper"}, fails: "/etc/resolv.conf"},
		{name: "resolv.conf is a directory", entries: []string{"etc/resolv.conf/"}, fails: "/etc/resolv.conf"},
		{name: "dev leads to proc", entries: []string{"dev->/proc"}, fails: "/dev"},
		{name: "dev is a file", entries: []string{"dev=x"}, fails: "place for a mount in the image: /dev: not a directory"},
		{name: "sys is a loop", entries: []string{"sys->sys"}, fails: "/sys: too many levels"},
		{name: "etc is a file", entries: []string{"etc=x"}, fails: "/etc/resolv.conf: not a directory"},
		{name: "whole etc leads away", entries: []string{"etc->/usr/etc", "usr/etc/passwd=root"}, script: "cat /etc/resolv.conf; ls /usr/etc", want: "canary\npasswd\nresolv.conf\n"},
	}

	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			box := newBox(t)
			for _, e := range tc.entries {
				box.add(strings.ReplaceAll(e, "OUT", box.path("out")))
			}
			check(t, mkdirs(box.path("out")))
			check(t, os.WriteFile(box.path("out/canary"), []byte("outside\n"), 0o644))
			check(t, os.WriteFile(box.path("resolv"), []byte("canary\n"), 0o644))
			c := box.config(tc.script)
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{
				Destination: "/etc/resolv.conf", Type: "bind", Source: box.path("resolv"), Options: []string{"ro", "bind"},
			})
			out, _, err := tryRun(t, c)
			switch {
			case tc.fails != "" && (err == nil || !strings.Contains(err.Error(), tc.fails)):
				t.Errorf("got %q and error %v, want an error with %q", out, err, tc.fails)
			case tc.fails == "":
				check(t, err)
				if out != tc.want {
					t.Error(cmp.Diff(tc.want, out))
				}
			}

			if got := box.changed(); len(got) > 0 {
				t.Errorf("in the upper directory: %v", got)
			}
			names, err := os.ReadDir(box.path("out"))
			check(t, err)
			text, err := os.ReadFile(box.path("out/canary"))
			check(t, err)
			if len(names) != 1 || string(text) != "outside\n" {
				t.Errorf("outside: %v %q", names, text)
			}
			left, err := filepath.Glob(box.path("stubs/targets-*"))
			check(t, err)
			if len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// A layer that hides the directory of a stub, by a whiteout or as opaque, hides the stub.
func TestHiddenStub(t *testing.T) {
	box := newBox(t, "etc/passwd=x")
	check(t, os.Chmod(filepath.Join(box.image, "etc"), 0o751))
	check(t, os.Chown(filepath.Join(box.image, "etc"), 7, 8))
	check(t, unix.Setxattr(filepath.Join(box.image, "etc"), "user.overlay.opaque", []byte("y"), 0))
	check(t, mkdirs(box.path("image2")))
	c := box.config("stat -c '%a %u:%g' /etc; ls /etc; cat /etc/resolv.conf; touch /etc/new")
	c.Root.Lowers = append(c.Root.Lowers, box.path("image2"))
	check(t, os.WriteFile(box.path("resolv"), []byte("here\n"), 0o644))
	c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/etc/resolv.conf", Type: "bind", Source: box.path("resolv")})
	out, _ := run(t, c)
	if want := "751 7:8\npasswd\nresolv.conf\nhere\n"; out != want {
		t.Error(cmp.Diff(want, out))
	}
	if got := box.changed(); !slices.Equal(got, []string{"/etc", "/etc/new"}) {
		t.Errorf("in the upper directory: %v", got)
	}
}

func TestVolumes(t *testing.T) {
	box := newBox(t, "link->/data", "data/")
	check(t, mkdirs(box.path("vol/sub"), box.path("other")))
	check(t, os.WriteFile(box.path("vol/file"), []byte("content\n"), 0o644))
	check(t, os.Symlink("/bin", box.path("vol/away")))
	pinned, err := os.OpenFile(box.path("vol"), unix.O_PATH, 0)
	check(t, err)
	defer pinned.Close()

	tests := []struct {
		name   string
		mounts []specs.Mount
		script string
		want   string
		fails  string
	}{
		{
			name:   "read-write by descriptor",
			mounts: []specs.Mount{{Destination: "/data", Type: "bind", Source: "/none", Options: []string{"rbind", "rw"}}},
			script: "cat /data/file; touch /data/x && echo written", want: "content\nwritten\n",
		},
		{
			name:   "read-only",
			mounts: []specs.Mount{{Destination: "/data", Type: "bind", Source: box.path("vol"), Options: []string{"rbind", "ro"}}},
			script: "touch /data/y 2>/dev/null || echo refused", want: "refused\n",
		},
		{
			name:   "by a link of the image",
			mounts: []specs.Mount{{Destination: "/link", Type: "bind", Source: box.path("vol")}},
			script: "cat /data/file", want: "content\n",
		},
		{
			name: "nested",
			mounts: []specs.Mount{
				{Destination: "/v", Type: "bind", Source: box.path("vol")},
				{Destination: "/v/sub", Type: "tmpfs", Options: []string{"mode=700", "size=1m"}},
			},
			script: "stat -c %a /v/sub; touch /v/sub/x; echo $?", want: "700\n0\n",
		},
		{
			name: "nested through a link of the volume",
			mounts: []specs.Mount{
				{Destination: "/v", Type: "bind", Source: box.path("vol")},
				{Destination: "/v/away", Type: "tmpfs"},
			},
			fails: "/v/away: too many levels",
		},
		{
			name: "nested in what is not there",
			mounts: []specs.Mount{
				{Destination: "/v", Type: "bind", Source: box.path("vol")},
				{Destination: "/v/new", Type: "tmpfs"},
			},
			fails: "/v/new: no such file",
		},
		{
			name:   "below dev",
			mounts: []specs.Mount{{Destination: "/dev/a/file", Type: "bind", Source: box.path("vol/file")}},
			script: "cat /dev/a/file", want: "content\n",
		},
		{
			name:   "over the same",
			mounts: []specs.Mount{{Destination: "/data", Type: "tmpfs"}, {Destination: "/data/", Type: "bind", Source: box.path("vol/sub")}},
			script: "ls /data; echo done", want: "done\n",
		},
		{
			name:   "no source",
			mounts: []specs.Mount{{Destination: "/data", Type: "bind", Source: box.path("none")}},
			fails:  "no such file",
		},
		{
			name:   "nosuid and noexec",
			mounts: []specs.Mount{{Destination: "/data", Type: "bind", Source: box.path("vol"), Options: []string{"nosuid", "noexec", "nodev"}}},
			script: "grep ' /data ' /proc/self/mountinfo | grep -c nosuid,nodev,noexec", want: "1\n",
		},
	}

	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			c := box.config(tc.script)
			c.Spec.Mounts = append(c.Spec.Mounts, tc.mounts...)
			if tc.mounts[0].Source == "/none" {
				c.Sources = map[string]*os.File{"/data": pinned}
			}
			out, _, err := tryRun(t, c)
			if tc.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fails) {
					t.Errorf("got %q, %v", out, err)
				}
				return
			}

			check(t, err)
			if out != tc.want {
				t.Error(cmp.Diff(tc.want, out))
			}
		})
	}
}

func TestDefaultSurroundings(t *testing.T) {
	box := newBox(t)
	tests := []struct{ name, script, want string }{
		{"devices", "ls /dev | tr '\\n' ' '", "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero \n"},
		{"null", "echo x >/dev/null && head -c 3 /dev/zero | wc -c", "3\n"},
		{"full", "echo x >/dev/full", "sh: write error: No space left on device\n"},
		{"shm", "stat -c %a /dev/shm; touch /dev/shm/x && echo ok", "1777\nok\n"},
		{"ptmx", "test -c /dev/ptmx && stat -c '%a' /dev/pts/ptmx", "666\n"},
		{"masked file", "wc -c </proc/interrupts; wc -c </proc/keys; wc -c < /proc/timer_list", "0\n0\n0\n"},
		{"masked directory", "ls /sys/firmware; touch /sys/firmware/x 2>/dev/null || echo refused", "refused\n"},
		{"read-only proc", "echo x 2>/dev/null >/proc/sys/kernel/hostname || echo refused", "refused\n"},
		{"read-only paths", "grep -o ' /proc/[sf]y*s ro,[a-z,]*' /proc/self/mountinfo", " /proc/fs ro,nosuid,nodev,noexec,relatime\n /proc/sys ro,nosuid,nodev,noexec,relatime\n"},
		{"sysrq", "echo h 2>/dev/null >/proc/sysrq-trigger || echo refused", "refused\n"},
		{"read-only sys", "grep -c ' /sys ro' /proc/self/mountinfo; grep ' - sysfs' /proc/self/mountinfo | grep -vc ' ro,'", "1\n0\n"},
		{"few processes", "test $(ls -d /proc/[0-9]* | wc -l) -lt 6 && echo few", "few\n"},
		{"no old root", "grep -c ' / / ' /proc/self/mountinfo", "1\n"},
	}

	add := []string{"tr", "test"}
	for _, name := range add {
		check(t, os.Symlink("busybox", filepath.Join(box.image, "bin", name)))
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			out, _ := run(t, box.config(tc.script))
			if strings.TrimSpace(out) != strings.TrimSpace(tc.want) {
				t.Error(cmp.Diff(tc.want, out))
			}
		})
	}
}

func TestProcFallbacks(t *testing.T) {
	box := newBox(t)
	tests := []struct {
		proc sandbox.ProcMount
		full bool // has more than the directories of processes
	}{
		{sandbox.ProcAuto, true},
		{sandbox.ProcFresh, true},
		{sandbox.ProcSubset, false},
		{sandbox.ProcBind, true},
	}

	for _, tc := range tests {
		c := box.config("wc -c </proc/self/mountinfo >/dev/null && echo 0; test -d /proc/sys && echo full; echo x 2>/dev/null >/proc/sys/kernel/hostname || echo refused; test -e /proc/$CALLER/cmdline || echo hidden")
		c.Proc = tc.proc
		c.Spec.Process.Env = append(c.Spec.Process.Env, "CALLER="+strconv.Itoa(os.Getpid()))
		out, _ := run(t, c)
		full := strings.Contains(out, "full")
		if tc.proc == sandbox.ProcBind && !strings.Contains(out, "hidden") {
			t.Errorf("the caller is seen: %q", out)
		}
		if !strings.HasPrefix(out, "0\n") || !strings.Contains(out, "refused") || full != tc.full {
			t.Errorf("way %d: %q", tc.proc, out)
		}
	}
}

func TestFromScratch(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077)) // must not show

	box := newBox(t)
	check(t, unix.Chmod(box.upper, 0o755))
	check(t, os.Rename(filepath.Join(box.image, "bin/busybox"), filepath.Join(box.upper, "busybox")))
	c := box.config("")
	c.Root.Lowers = nil
	check(t, os.WriteFile(box.path("hosts"), nil, 0o644))
	c.Spec.Mounts = append(
		c.Spec.Mounts,
		specs.Mount{Destination: "/etc/hosts", Type: "bind", Source: box.path("hosts")},
		specs.Mount{Destination: "/dev/deep/er", Type: "tmpfs"},
	)

	c.Spec.Process.Args = []string{"/busybox", "ls", "/"}
	out, _ := run(t, c)
	if want := "busybox\ndev\netc\nproc\nsys\n"; out != want {
		t.Error(cmp.Diff(want, out))
	}
	c.Spec.Process.Args = []string{"/busybox", "stat", "-c", "%a %n", "/etc", "/etc/hosts", "/dev/deep", "/dev/shm"}
	if out, _ = run(t, c); out != "755 /etc\n600 /etc/hosts\n755 /dev/deep\n1777 /dev/shm\n" {
		t.Errorf("modes: %q", out)
	}
	if got := box.changed(); !slices.Equal(got, []string{"/busybox"}) {
		t.Errorf("in the upper directory: %v", got)
	}
}

func TestClassicOverlay(t *testing.T) {
	box := newBox(t)
	c := box.config("echo x >/f; rm /bin/true; ls -d /bin/true; cat /f")
	c.Root.Classic = true
	out, _ := run(t, c)
	if !strings.HasSuffix(out, "x\n") || !slices.Equal(box.changed(), []string{"/bin", "/bin/true", "/f"}) {
		t.Errorf("got %q, changed %v", out, box.changed())
	}
}

func TestNoNetwork(t *testing.T) {
	box := newBox(t)
	check(t, os.Symlink("busybox", filepath.Join(box.image, "bin/ifconfig")))
	c := box.config("ls /sys/class/net; grep -c : /proc/net/dev; ifconfig lo | grep -o UP; grep ' /sys ' /proc/self/mountinfo | grep -o ' ro,'")
	c.Network = sandbox.None
	out, _ := run(t, c)
	if want := "lo\n1\nUP\n ro,\n ro,\n"; out != want {
		t.Error(cmp.Diff(want, out))
	}
}

func TestPrivateNetwork(t *testing.T) {
	box := newBox(t)
	if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err != nil {
		t.Skip("no private network without the tun device: ", err)
	} else {
		check(t, f.Close())
	}

	for _, name := range []string{"route", "nslookup"} {
		check(t, os.Symlink("busybox", filepath.Join(box.image, "bin", name)))
	}
	for _, helper := range []string{"/usr/bin/pasta", "/usr/bin/slirp4netns"} {
		t.Run(filepath.Base(helper), func(t *testing.T) {
			if _, err := os.Stat(helper); err != nil {
				t.Skip(err)
			}
			c := box.config("route -n | grep -c ^0.0.0.0; ls /sys/class/net | wc -l; nslookup -type=a localhost " + sandbox.Nameserver(helper).String() + " | grep -c ^Server")
			c.Network, c.NetworkHelper = sandbox.Private, helper
			out, _ := run(t, c)
			if out != "1\n2\n1\n" {
				t.Errorf("got %q", out)
			}
		})
	}
}

func TestPrivateNetworkFails(t *testing.T) {
	box := newBox(t)
	c := box.config("echo ran")
	c.Network, c.NetworkHelper = sandbox.Private, "/bin/false"
	out, _, err := tryRun(t, c)
	if err == nil || !strings.Contains(err.Error(), "/bin/false") {
		t.Errorf("got %q, %v", out, err)
	}
}

// Layers that are pinned by descriptors are mounted even if their names are gone.
func TestPinnedLayers(t *testing.T) {
	for _, classic := range []bool{false, true} {
		box := newBox(t, "file=content\n")
		c := box.config("cat /file")
		c.Root.Classic = classic
		for _, dir := range []*string{&c.Root.Lowers[0], &c.Root.Upper, &c.Root.Work} {
			f, err := os.Open(*dir)
			check(t, err)
			defer f.Close()
			check(t, os.Rename(*dir, *dir+".moved"))
			*dir = fmt.Sprintf("/proc/self/fd/%d", f.Fd())
		}
		out, _ := run(t, c)
		if out != "content\n" {
			t.Errorf("classic %v: got %q", classic, out)
		}
	}
}

// TestNoDevices: no mount lets device nodes be opened but devpts and the mounts of single devices,
// whatever the caller says.
func TestNoDevices(t *testing.T) {
	box := newBox(t, "srv/")
	check(t, mkdirs(box.path("volume")))
	c := box.config("cat /proc/self/mountinfo; head -c 4 /srv/zero | wc -c; echo x > /dev/null && echo written")
	c.Spec.Mounts = append(
		c.Spec.Mounts,
		specs.Mount{Destination: "/srv/volume", Type: "bind", Source: box.path("volume"), Options: []string{"rbind", "rw"}},
		specs.Mount{Destination: "/srv/memory", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "dev"}},
		specs.Mount{Destination: "/srv/zero", Type: "bind", Source: "/dev/zero", Options: []string{"bind", "dev"}},
		specs.Mount{Destination: "/srv/full", Type: "bind", Source: "/dev/full", Options: []string{"bind"}},
	)

	out, _ := run(t, c)
	if !strings.HasSuffix(out, "\n4\nwritten\n") {
		t.Errorf("the devices that a step needs do not work:\n%s", out)
	}

	with := map[string]bool{"/dev/pts": true, "/srv/zero": true}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		with["/dev/"+name] = true
	}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 6 {
			continue
		}
		if at := fields[4]; strings.Contains(fields[5], "nodev") == with[at] && !masked(c, at) {
			t.Errorf("%s is mounted with %s", at, fields[5])
		}
	}
}

// masked reports whether /dev/null may lie at the path.
func masked(c sandbox.Config, path string) bool {
	return slices.Contains(c.Spec.Linux.MaskedPaths, path)
}

// A directory is no device: the option that makes devices work is for one node.
func TestDevicesOfDirectory(t *testing.T) {
	box := newBox(t, "srv/")
	c := box.config("true")
	c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/srv", Type: "bind", Source: "/dev", Options: []string{"rbind", "dev"}})
	if _, _, err := tryRun(t, c); err == nil || !strings.Contains(err.Error(), "mount option dev needs a device node") {
		t.Errorf("got %v", err)
	}
}
