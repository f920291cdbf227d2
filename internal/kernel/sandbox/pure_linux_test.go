package sandbox

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseOptions(t *testing.T) {
	tests := []struct {
		name    string
		fsType  string
		options []string
		want    mountOptions
		fails   bool
	}{
		{name: "none", fsType: "bind"},
		{name: "bind", fsType: "bind", options: []string{"rbind", "ro", "rprivate"}, want: mountOptions{set: unix.MOUNT_ATTR_RDONLY}},
		{name: "the last wins", fsType: "bind", options: []string{"ro", "rw"}, want: mountOptions{clear: unix.MOUNT_ATTR_RDONLY}},
		{
			name: "tmpfs", fsType: "tmpfs", options: []string{"nosuid", "noexec", "mode=1777", "size=1m"},
			want: mountOptions{set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC, params: []string{"mode=1777", "size=1m"}},
		},
		{name: "flag", fsType: "devpts", options: []string{"newinstance"}, want: mountOptions{params: []string{"newinstance"}}},
		{
			name: "access times", fsType: "tmpfs", options: []string{"noatime", "strictatime"},
			want: mountOptions{set: unix.MOUNT_ATTR_STRICTATIME, clear: unix.MOUNT_ATTR__ATIME},
		},
		{name: "shared", fsType: "bind", options: []string{"shared"}, fails: true},
		{name: "rshared", fsType: "bind", options: []string{"rbind", "rshared"}, fails: true},
		{name: "parameter of another type", fsType: "bind", options: []string{"size=1"}, fails: true},
		{name: "bind of a tmpfs", fsType: "tmpfs", options: []string{"bind"}, fails: true},
		{name: "empty", fsType: "tmpfs", options: []string{""}, fails: true},
		{name: "two in one", fsType: "bind", options: []string{"ro,dev"}, fails: true},
	}

	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parseOptions(tc.fsType, tc.options)
			if (err != nil) != tc.fails {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(mountOptions{})); err == nil && diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestIdentity(t *testing.T) {
	const text = "         0       1001          1\n         1     100000      65536\n"
	got, err := identity(text, nil)
	if want := "0 0 1\n1 1 65536\n"; err != nil || got != want {
		t.Errorf("got %q, %v", got, err)
	}
	for id, want := range map[uint64]bool{0: true, 1: true, 65536: true, 65537: false, 1 << 40: false} {
		if has(got, id) != want {
			t.Errorf("has %d: %v", id, !want)
		}
	}

	got, err = identity(text, []IDRange{{0, 100}, {65534, 9}})
	if want := "0 0 1\n1 1 99\n65534 65534 3\n"; err != nil || got != want {
		t.Errorf("of two ranges: got %q, %v", got, err)
	}
	for _, bad := range []string{"0 1\n", "0 1 x\n", "0 0 4294967296\n"} {
		if _, err := identity(bad, nil); err == nil {
			t.Errorf("%q was taken for an extent", bad)
		}
	}
}

func TestMergeCapabilities(t *testing.T) {
	base := []string{"CAP_KILL", "CAP_CHOWN"}
	for _, tc := range []struct {
		add, drop string // separated by blanks
		want      string // the same; an error if it begins with "!"
	}{
		{"", "", "CAP_CHOWN CAP_KILL"},
		{"sys_admin", "", "CAP_CHOWN CAP_KILL CAP_SYS_ADMIN"},
		{"CAP_Sys_Time chown", "Kill", "CAP_CHOWN CAP_SYS_TIME"},
		{"", "all", ""},
		{"kill", "ALL", "CAP_KILL"},
		{"all", strings.Join(capabilityNames()[2:], " "), "CAP_CHOWN CAP_DAC_OVERRIDE"},
		{"", "cap_sys_time", "CAP_CHOWN CAP_KILL"},
		{"all", "ALL", "!all capabilities"},
		{"kill", "CAP_KILL", "!CAP_KILL cannot be both"},
		{"sys_nothing", "", `!unknown capability "CAP_SYS_NOTHING"`},
		{"CAP_CAP_KILL", "", "!unknown"},
	} {
		got, err := MergeCapabilities(base, strings.Fields(tc.add), strings.Fields(tc.drop))
		text := strings.Join(got, " ")
		if want, ok := strings.CutPrefix(tc.want, "!"); ok {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q, %q: got %v, want %q", tc.add, tc.drop, err, want)
			}
		} else if err != nil || text != tc.want {
			t.Errorf("%q, %q: got %q, %v, want %q", tc.add, tc.drop, text, err, tc.want)
		}
	}

	if got, err := MergeCapabilities([]string{"all"}, nil, nil); err != nil || len(got) != len(capabilityNames()) {
		t.Errorf("all: %q, %v", got, err)
	}
}

func TestCandidates(t *testing.T) {
	tests := []struct {
		name string
		env  []string
		want []string
	}{
		{"/bin/x", nil, []string{"/bin/x"}},
		{"./x", []string{"PATH=/bin"}, []string{"./x"}},
		{"a/x", []string{"PATH=/bin"}, []string{"a/x"}},
		{"x", []string{"PATH=/bin:/usr/bin/"}, []string{"/bin/x", "/usr/bin/x"}},
		{"x", []string{"PATH=/a", "PATH=/b"}, []string{"/b/x"}},
		{"x", []string{"PATH=:rel:/bin"}, []string{"./x", "./rel/x", "/bin/x"}},
		{"x", []string{"PATH="}, []string{"./x"}},
		{"x", []string{"NOPATH=/bin"}, []string{
			"/usr/local/sbin/x", "/usr/local/bin/x", "/usr/sbin/x", "/usr/bin/x", "/sbin/x", "/bin/x",
		}},
	}

	for _, tc := range tests {
		if diff := cmp.Diff(tc.want, Candidates(tc.name, tc.env)); diff != "" {
			t.Errorf("%s %v: %s", tc.name, tc.env, diff)
		}
	}
}

func TestCapabilityMask(t *testing.T) {
	got, err := capabilityMask(DefaultCapabilities())
	if err != nil || got != 0xa80425fb {
		t.Errorf("got %#x, %v", got, err)
	}
	if n := len(capabilityNames()); n != unix.CAP_LAST_CAP+1 {
		t.Errorf("%d capabilities, the library knows %d", n, unix.CAP_LAST_CAP+1)
	}
	if _, err := capabilityMask([]string{"chown"}); err == nil {
		t.Error("a name of another form was taken")
	}
}
