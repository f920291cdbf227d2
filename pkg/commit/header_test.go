package commit

import (
	"archive/tar"
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAttributes(t *testing.T) {
	const user, trusted = "user.overlay.", "trusted.overlay."
	for _, tc := range []struct {
		name   string
		prefix string
		xattrs []string // name=value
		want   attributes
	}{
		{"none", user, nil, attributes{}},
		{
			"kept", user,
			[]string{"user.a=1", "security.capability=cap", "user.overlaid=2"},
			attributes{kept: map[string]string{"SCHILY.xattr.user.a": "1", "SCHILY.xattr.security.capability": "cap", "SCHILY.xattr.user.overlaid": "2"}},
		},
		{
			"dropped", user,
			[]string{
				"trusted.a=1", "trusted.overlay.opaque=y", "security.selinux=s", "security.ima=s", "system.posix_acl_access=acl",
				"user.overlay.origin=o", "user.overlay.impure=y", "user.overlay.overlay.opaque=y", "user.overlay.overlay.redirect=x",
			},
			attributes{},
		},
		{"opaque", user, []string{"user.overlay.opaque=y"}, attributes{opaque: "y"}},
		{"may hold file whiteouts", user, []string{"user.overlay.opaque=x"}, attributes{opaque: "x"}},
		{"file whiteout", user, []string{"user.overlay.whiteout="}, attributes{whiteout: true}},
		{"redirect", user, []string{"user.overlay.redirect=/a"}, attributes{forbidden: "user.overlay.redirect"}},
		{"metacopy", user, []string{"user.overlay.metacopy="}, attributes{forbidden: "user.overlay.metacopy"}},
		{"opaque of a privileged mount", trusted, []string{"trusted.overlay.opaque=y"}, attributes{opaque: "y"}},
		{"user's attribute below a privileged mount", trusted, []string{"user.overlay.opaque=y", "user.overlay.metacopy="}, attributes{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got attributes
			for _, x := range tc.xattrs {
				name, value, _ := strings.Cut(x, "=")
				got.add(tc.prefix, name, value)
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(attributes{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPortableCapability(t *testing.T) {
	const sets = "\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" // cap_net_raw permitted
	const v2 = "\x01\x00\x00\x02" + sets
	for _, tc := range []struct{ name, in, want string }{
		{"revision 2 stays", v2, v2},
		{"revision 3 of this namespace's root", "\x01\x00\x00\x03" + sets + "\x00\x00\x00\x00", v2},
		{"revision 3 of somebody else", "\x01\x00\x00\x03" + sets + "\xe8\x03\x00\x00", "\x01\x00\x00\x03" + sets + "\xe8\x03\x00\x00"},
		{"too short", "\x01\x00\x00\x03", "\x01\x00\x00\x03"},
		{"length of 3, revision of 2", v2 + "\x00\x00\x00\x00", v2 + "\x00\x00\x00\x00"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := portableCapability(tc.in); got != tc.want {
				t.Errorf("got %x, want %x", got, tc.want)
			}
		})
	}
}

func TestModTime(t *testing.T) {
	epoch := time.Unix(1000, 900)
	for _, tc := range []struct {
		name string
		o    TarOptions
		sec  int64
		want int64
	}{
		{"kept", TarOptions{}, -5, -5},
		{"all set", TarOptions{Epoch: &epoch}, 5, 1000},
		{"later ones set", TarOptions{Epoch: &epoch, Clamp: true}, 2000, 1000},
		{"the farthest one set", TarOptions{Epoch: &epoch, Clamp: true}, math.MaxInt64, 1000},
		{"earlier ones kept", TarOptions{Epoch: &epoch, Clamp: true}, 5, 5},
		{"clamp alone does nothing", TarOptions{Clamp: true}, 2000, 2000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := tc.o.modTime(tc.sec)
			if got.Unix() != tc.want || got.Nanosecond() != 0 {
				t.Errorf("got %v, want second %d", got, tc.want)
			}
		})
	}
}

// TestEncodeTimes encodes the extreme times of file systems; tmpfs stores 64 bits of seconds.
func TestEncodeTimes(t *testing.T) {
	for _, sec := range []int64{0, 1, -1, 1 << 33, 1<<33 - 1, 9_223_372_037, math.MaxInt64, math.MinInt64} {
		var buf bytes.Buffer
		if err := encode(&buf, markerHeader("f", (&TarOptions{}).modTime(sec))); err != nil {
			t.Fatal(err)
		}
		h, err := tar.NewReader(&buf).Next()
		if err != nil {
			t.Fatal(err)
		}
		if h.ModTime.Unix() != sec {
			t.Errorf("%d is written as %d", sec, h.ModTime.Unix())
		}
	}
}
