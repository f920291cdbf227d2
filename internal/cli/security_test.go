package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
)

func TestParseDevice(t *testing.T) {
	for _, tc := range []struct {
		text, source, dest string
		refused            string
	}{
		{"/dev/fuse", "/dev/fuse", "/dev/fuse", ""},
		{"/dev/fuse:rwm", "/dev/fuse", "/dev/fuse", ""},
		{"/dev/fuse:wr", "/dev/fuse", "/dev/fuse", ""},
		{"/dev//a/../fuse:/x/", "/dev/fuse", "/x", ""},
		{"/dev/fuse:/x:rw", "/dev/fuse", "/x", ""},
		{"/dev/fuse:/rwm", "/dev/fuse", "/rwm", ""},
		{"/dev/procfs:/proc2", "/dev/procfs", "/proc2", ""},
		{"/dev/fuse:", "", "", "want /HOST-DEVICE"},
		{"/dev/fuse:/x:", "", "", "want /HOST-DEVICE"},
		{"/dev/fuse:/x:/y", "", "", "want /HOST-DEVICE"},
		{"/dev/fuse:/x:rw:rw", "", "", "want /HOST-DEVICE"},
		{"", "", "", "want /HOST-DEVICE"},
		{"fuse", "", "", "want /HOST-DEVICE"},
		{"/dev/fuse:rm", "", "", "less than rw"},
		{"/dev/fuse:/x:r", "", "", "less than rw"},
		{"nvidia.com/gpu=0", "", "", "CDI"},
		{"/dev/fuse:/x/../proc/1", "", "", "something else at /proc"},
		{"/dev/fuse:/dev/pts/0", "", "", "something else at /dev/pts"},
		{"/dev/fuse:/..", "", "", "something else at /"},
	} {
		d, err := parseDevice(tc.text)
		if tc.refused != "" {
			if err == nil || !strings.Contains(err.Error(), tc.refused) {
				t.Errorf("%q: %+v, %v, want %q", tc.text, d, err, tc.refused)
			}
		} else if err != nil || d.Path != tc.source || d.Dest != tc.dest {
			t.Errorf("%q: %+v, %v", tc.text, d, err)
		}
	}
}

func TestParseIDs(t *testing.T) {
	for _, tc := range []struct {
		text string
		want []sandbox.IDRange
	}{
		{"", nil},
		{"0:0:65536", []sandbox.IDRange{{First: 0, Count: 65536}}},
		{"0:0:1,5:5:5", []sandbox.IDRange{{First: 0, Count: 1}, {First: 5, Count: 5}}},
		{"0:0:1:5:5:5", []sandbox.IDRange{{First: 0, Count: 1}, {First: 5, Count: 5}}},
		{"0:0:4294967295", []sandbox.IDRange{{First: 0, Count: 4294967295}}},
	} {
		got, err := ParseIDs("--x", strings.Split(tc.text, ","))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.text, diff)
		}
	}

	for _, bad := range []string{"0", "0:0", "0:1:5", "1:1:5", "0:0:0", "0:0:-1", "0:0:2,1:1:2", "1:1:4294967295,0:0:1", "0:0:4294967296", "a:a:1"} {
		if got, err := ParseIDs("--x", []string{bad}); err == nil {
			t.Errorf("%s: %v", bad, got)
		}
	}
}

func TestParseUlimit(t *testing.T) {
	l, err := parseUlimit("memlock=5:-1")
	if err != nil || l.Type != "RLIMIT_MEMLOCK" || l.Soft != 5 || l.Hard != 1<<64-1 {
		t.Errorf("%+v, %v", l, err)
	}
	for _, bad := range []string{"", "core", "core=", "core=1:", "core=-2", "core=1:-2", "core=2:1", "core=-1:1", "core=9223372036854775808", "as=1", "host", "core=1:2:3", "core=0x1"} {
		if l, err := parseUlimit(bad); err == nil {
			t.Errorf("%s: %+v", bad, l)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "1": 1, "64m": 64 << 20, "1.5k": 1536, "1G": 1 << 30, "1024t": 1 << 50} {
		if n, err := parseSize(text); err != nil || *n != want {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, bad := range []string{"-1", "x", "1025t", "1e30g", "99999999999999999999", "nan", "inf", "1 m m"} {
		if n, err := parseSize(bad); err == nil {
			t.Errorf("%s: %d", bad, *n)
		}
	}
}
