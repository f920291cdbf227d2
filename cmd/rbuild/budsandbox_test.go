package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/pkg/userns"
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
		} else if err != nil || d.source != tc.source || d.dest != tc.dest {
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
		got, err := parseIDs("--x", strings.Split(tc.text, ","))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.text, diff)
		}
	}

	for _, bad := range []string{"0", "0:0", "0:1:5", "1:1:5", "0:0:0", "0:0:-1", "0:0:2,1:1:2", "1:1:4294967295,0:0:1", "0:0:4294967296", "a:a:1"} {
		if got, err := parseIDs("--x", []string{bad}); err == nil {
			t.Errorf("%s: %v", bad, got)
		}
	}
}

// TestUnknownIDs wants maps to be refused that have ids which the builder has not.
func TestUnknownIDs(t *testing.T) {
	have := []userns.IDMap{{Inside: 0, Outside: 1000, Size: 1}, {Inside: 1, Outside: 100000, Size: 999}, {Inside: 2000, Outside: 200000, Size: 1}}
	state := &userns.State{Mode: userns.Helper, UIDMap: have, GIDMap: have}
	for text, ok := range map[string]bool{
		"0:0:1": true, "0:0:1000": true, "0:0:1001": false, "0:0:1,2000:2000:1": true, "0:0:1,1999:1999:2": false, "0:0:4294967295": false,
	} {
		f := parse(t, "--userns-uid-map", text)
		o, err := f.options(environment())
		if err != nil {
			t.Fatal(err)
		}
		if err := f.box.ids.check(&o.Run.Security, state); err == nil != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestParseLimit(t *testing.T) {
	l, err := parseLimit("memlock=5:-1")
	if err != nil || l.Type != "RLIMIT_MEMLOCK" || l.Soft != 5 || l.Hard != 1<<64-1 {
		t.Errorf("%+v, %v", l, err)
	}
	for _, bad := range []string{"", "core", "core=", "core=1:", "core=-2", "core=1:-2", "core=2:1", "core=-1:1", "core=9223372036854775808", "as=1", "host", "core=1:2:3", "core=0x1"} {
		if l, err := parseLimit(bad); err == nil {
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
