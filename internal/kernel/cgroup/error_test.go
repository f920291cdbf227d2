package cgroup

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestRefusal: the errno of a refused directory decides about the reason.
func TestRefusal(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want Reason
	}{
		{unix.EACCES, NotDelegated},
		{&os.PathError{Op: "mkdir", Path: "/sys/fs/cgroup/x", Err: unix.EPERM}, NotDelegated},
		{fmt.Errorf("writing: %w", unix.EROFS), ReadOnly},
		{unix.ENOENT, NoParent},
		{unix.EIO, ""},
	} {
		t.Run(tc.err.Error(), func(t *testing.T) {
			err := refusal(root+"/x", tc.err)
			if !errors.Is(err, underlying(tc.err)) && tc.want != "" {
				t.Errorf("%v hides %v", err, tc.err)
			}
			var got Reason
			if e, ok := errors.AsType[*Error](err); ok {
				got = e.Reason
			}
			if got != tc.want {
				t.Errorf("reason %q, want %q: %v", got, tc.want, err)
			}
		})
	}
}

// TestNoController: the remedy for a missing controller depends on who could delegate it.
func TestNoController(t *testing.T) {
	const user = "/user.slice/user-1000.slice/session-1.scope"
	for _, tc := range []struct {
		name    string
		parent  *Parent
		missing []string
		reason  Reason
		fix     string
	}{
		{"the parent holds processes", &Parent{v2: true, busy: true, name: "/a/rbuild-x"}, []string{CPU}, Busy, fixInit},
		{"a session of systemd holds processes", &Parent{v2: true, busy: true, name: user}, []string{CPU}, Busy, fixScope},
		{"no accounting of swap space", &Parent{v2: true, manager: Systemd}, []string{Swap}, NoController, fixSwap},
		{"systemd delegates less", &Parent{v2: true, manager: Systemd, name: user}, []string{CPUSet}, NoController, fixDelegate},
		{"a cgroup of systemd", &Parent{v2: true, manager: CgroupFS, name: user}, []string{CPUSet}, NoController, fixDelegate},
		{"a container", &Parent{v2: true, manager: CgroupFS, name: "/"}, []string{CPUSet}, NoController, fixContainer},
		{"version 1", &Parent{manager: CgroupFS, name: "/"}, []string{CPUSet, Memory}, NoController, fixV1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.parent.noController(tc.missing)
			if err.Reason != tc.reason || err.Fix != tc.fix || err.Detail == "" {
				t.Errorf("reason %q, remedy %q, detail %q", err.Reason, err.Fix, err.Detail)
			}
		})
	}
}

// TestFresh: names are recognised, and differ.
func TestFresh(t *testing.T) {
	name := fresh()
	if !isFresh(name) || name == fresh() {
		t.Errorf("name %q", name)
	}
	for _, other := range []string{"", prefix, name + "A", name[1:], prefix + "abcdefghij", prefix + "A/B/C/D/E/", name + ".scope"} {
		if isFresh(other) {
			t.Errorf("%q is taken for a name of this package", other)
		}
	}
	if !prepared("/a/"+name+"/"+leaf) || prepared("/a/"+name) || prepared("/a/"+leaf) {
		t.Error("a cgroup of Prepare is not recognised")
	}
}

// TestWantsBus: which options make Open ask systemd.
func TestWantsBus(t *testing.T) {
	const remote = "tcp:host=localhost,port=1" // an address that cannot be tried without a connection
	for _, tc := range []struct {
		name    string
		options Options
		want    bool
	}{
		{"named", Options{Manager: Systemd}, true},
		{"another is named", Options{Manager: CgroupFS, Bus: remote}, false},
		{"off", Options{Manager: Disabled, Bus: remote}, false},
		{"no bus", Options{}, false},
		{"bus", Options{Bus: remote}, true},
		{"a slice", Options{Bus: remote, Parent: "user.slice"}, true},
		{"a path", Options{Bus: remote, Parent: "/a/b"}, false},
		{"nobody listens", Options{Bus: "unix:path=/does/not/exist,guid=1"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.options.wantsBus(); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestList(t *testing.T) {
	for want, names := range map[string][]string{"none": nil, "cpu": {"cpu"}, "cpu, io and memory": {"cpu", "io", "memory"}} {
		if got := list(names); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestRefusalV1: on version 1 root has to delegate a directory.
func TestRefusalV1(t *testing.T) {
	e, ok := errors.AsType[*Error](refusalV1(nil))
	if !ok || e.Reason != NoHierarchy {
		t.Errorf("no hierarchy: %v", e)
	}
	e, ok = errors.AsType[*Error](refusalV1(&os.PathError{Op: "making a cgroup", Path: root + "/memory/x", Err: unix.EACCES}))
	if !ok || e.Reason != NotDelegated || e.Fix != fixV1 {
		t.Errorf("not delegated: %v", e)
	}
}

// TestOnly: limits without their controllers are dropped.
func TestOnly(t *testing.T) {
	all := Limits{
		Memory: 1, MemorySwap: 2, CPUQuota: 3, CPUPeriod: 4, CPUShares: 5, CPUs: "0", Mems: "0", Pids: 6,
		Files: map[string]string{"memory.high": "1", "io.max": "2", "cgroup.max.depth": "3"},
	}
	for _, tc := range []struct {
		name        string
		controllers []string
		want        Limits
	}{
		{"none", nil, Limits{Files: map[string]string{"cgroup.max.depth": "3"}}},
		{"memory", []string{Memory}, Limits{Memory: 1, Files: map[string]string{"memory.high": "1", "cgroup.max.depth": "3"}}},
		{"all", []string{Memory, Swap, CPU, CPUSet, Pids, "io"}, all},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, all.Only(tc.controllers)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
