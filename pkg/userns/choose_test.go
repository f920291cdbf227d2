package userns

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChoose(t *testing.T) {
	initial := []IDMap{{0, 0, initMap}}
	podman := []IDMap{{0, 1000, 1}, {1, 100000, 65536}}
	few := []IDMap{{0, 1000, 1}, {1, 100000, 1000}}
	one := []IDMap{{0, 1000, 1}}
	with := func(uids, gids []idRange) delegation {
		return delegation{
			User: "alice", UIDTool: "/usr/bin/newuidmap", GIDTool: "/usr/bin/newgidmap",
			UIDs: subids{Mine: uids, All: append([]idRange{{100000, 65536}}, uids...)},
			GIDs: subids{Mine: gids, All: append([]idRange{{100000, 65536}}, gids...)},
		}
	}

	usual := []idRange{{100000, 65536}}
	alice := standing{UID: 1000, GID: 100, UIDMap: initial, GIDMap: initial, Initial: true}
	bare := with(usual, usual)
	bare.GIDTool = ""
	misspelt := with(nil, nil)
	misspelt.UIDs.Bad = []int{4}
	tests := []struct {
		name   string
		s      standing
		d      delegation
		mode   Mode
		uids   []IDMap
		gids   []IDMap
		reason Reason
		says   []string
	}{
		{name: "real root", s: standing{UIDMap: initial, GIDMap: initial, Initial: true, SysAdmin: true, SetIDs: true}, mode: Root},
		{name: "full map, yet nested", s: standing{UIDMap: initial, GIDMap: initial, SysAdmin: true}, mode: Identity},
		{name: "podman unshare", s: standing{UIDMap: podman, GIDMap: podman, SysAdmin: true, SetIDs: true}, mode: Identity},
		{
			name: "pod with the node's ids", s: standing{UIDMap: initial, GIDMap: initial, Initial: true, SetIDs: true},
			mode: Direct, uids: []IDMap{{0, 100000, 65536}}, gids: []IDMap{{0, 100000, 65536}},
		},
		{
			name: "pod with its own ids", s: standing{UIDMap: podman, GIDMap: podman, SetIDs: true},
			mode: Direct, uids: []IDMap{{0, 0, 1}, {1, 1, 65536}}, gids: []IDMap{{0, 0, 1}, {1, 1, 65536}},
		},
		{
			name: "too few for root", s: standing{UIDMap: few, GIDMap: few, SysAdmin: true, SetIDs: true},
			reason: TooFewIDs, says: []string{"has 1001 ids without 65534"},
		},
		{name: "unshare -r", s: standing{UIDMap: one, GIDMap: one, SysAdmin: true, SetIDs: true}, reason: TooFewIDs, says: []string{"single id"}},
		{name: "root without capabilities", s: standing{UIDMap: initial, GIDMap: initial, Initial: true}, reason: Capabilities, says: []string{"SETUID"}},
		{
			name: "user", s: alice, d: with(usual, []idRange{{200000, 70000}}),
			mode: Helper, uids: []IDMap{{0, 1000, 1}, {1, 100000, 65536}}, gids: []IDMap{{0, 100, 1}, {1, 200000, 70000}},
		},
		{
			name: "user of the image for pods", s: alice, d: with([]idRange{{1, 999}, {1001, 64535}, {100000, 65536}}, usual),
			mode: Helper, uids: []IDMap{{0, 1000, 1}, {1, 100000, 65536}}, gids: []IDMap{{0, 100, 1}, {1, 100000, 65536}},
		},
		{
			name: "the same in a pod", s: standing{UID: 1000, GID: 100, UIDMap: []IDMap{{0, 900000, 65536}}, GIDMap: initial},
			d:    with([]idRange{{1, 999}, {1001, 64535}, {100000, 65536}}, usual),
			mode: Helper, uids: []IDMap{{0, 1000, 1}, {1, 1, 999}, {1000, 1001, 64535}}, gids: []IDMap{{0, 100, 1}, {1, 100000, 65536}},
		},
		{
			name: "none but the machine's ids", s: alice, d: with([]idRange{{1001, 65535}, {100000, 10}}, usual),
			mode: Helper, uids: []IDMap{{0, 1000, 1}, {1, 1001, 65535}, {65536, 100000, 10}}, gids: []IDMap{{0, 100, 1}, {1, 100000, 65536}},
		},
		{
			name: "no ids", s: alice, d: with(nil, nil), reason: NoSubIDs,
			says: []string{"alice has no subordinate ids in /etc/subuid and /etc/subgid; run as root: usermod --add-subuids 165536-231071 --add-subgids 165536-231071 alice"},
		},
		{
			name: "no gids", s: alice, d: with(usual, nil), reason: NoSubIDs,
			says: []string{"in /etc/subgid; run as root: usermod --add-subgids 165536-231071 alice"},
		},
		{name: "no uids", s: alice, d: with(nil, usual), reason: NoSubIDs, says: []string{"in /etc/subuid; run as root: usermod --add-subuids 165536-231071 alice"}},
		{name: "misspelt line", s: alice, d: misspelt, reason: NoSubIDs, says: []string{"line 4 of /etc/subuid cannot be read"}},
		{name: "no newgidmap", s: alice, d: bare, reason: NoHelper, says: []string{"newgidmap is not installed; ", "apt-get install uidmap"}},
		{
			name: "too few", s: alice, d: with([]idRange{{300000, 1000}}, usual), reason: TooFewIDs,
			says: []string{"1001 uids and 65537 gids", "usermod --add-subuids 165536-231071 alice"},
		},
		{
			name: "too few in a pod", s: standing{UID: 1000, GID: 1000, UIDMap: []IDMap{{0, 900000, 65536}}, GIDMap: []IDMap{{0, 900000, 65536}}},
			d: with(usual, usual), reason: TooFewIDs, says: []string{"alice:1:999 and alice:1001:64535"},
		},
	}

	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, err := choose(tc.s, func() (delegation, error) { return tc.d, nil })
			checkError(t, err, tc.reason, tc.says)
			if diff := cmp.Diff(plan{Mode: tc.mode, UIDMap: tc.uids, GIDMap: tc.gids}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// checkError checks that err is an Error of one line with the reason and all texts in says. An
// empty reason means no error.
func checkError(t *testing.T, err error, reason Reason, says []string) {
	t.Helper()
	if reason == "" {
		if err != nil {
			t.Fatal(err)
		}
		return
	}

	var e *Error
	if !errors.As(err, &e) || e.Reason != reason {
		t.Fatalf("error %v, want reason %s", err, reason)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %q", err)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q does not say %q", err, s)
		}
	}
}

func TestChooseStopsAtError(t *testing.T) {
	_, err := choose(standing{UID: 5}, func() (delegation, error) { return delegation{}, fs.ErrPermission })
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("error %v", err)
	}
}

func TestSingle(t *testing.T) {
	got := single(standing{UID: 1000, GID: 100}, errors.New("no luck"))
	want := plan{
		Mode: Single, UIDMap: []IDMap{{0, 1000, 1}}, GIDMap: []IDMap{{0, 100, 1}},
		Warnings: []string{"only one user id and one group id can be mapped: no luck"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
