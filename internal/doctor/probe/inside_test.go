package probe

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/doctor"
	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func TestNamespaces(t *testing.T) {
	ids := []userns.IDMap{{Inside: 0, Outside: 1000, Size: 1}, {Inside: 1, Outside: 100000, Size: 65536}}
	for _, tc := range []struct {
		name  string
		state userns.State
		want  []brief
		ids   string
	}{
		{"helper", userns.State{Mode: userns.Helper, UIDMap: ids, GIDMap: ids, PIDNamespace: true}, []brief{{doctor.Userns, doctor.OK}, {doctor.IDMap, doctor.OK}}, "65537 user ids and 65537 group ids, mapped by newuidmap and newgidmap"},
		{"direct", userns.State{Mode: userns.Direct, UIDMap: ids, PIDNamespace: true}, []brief{{doctor.Userns, doctor.OK}, {doctor.IDMap, doctor.OK}}, "65537 user ids and 0 group ids, mapped by root itself"},
		{"root", userns.State{Mode: userns.Root, PIDNamespace: true}, []brief{{doctor.Userns, doctor.OK}, {doctor.IDMap, doctor.OK}}, "all ids of the machine"},
		{"single", userns.State{Mode: userns.Single, UIDMap: ids[:1], PIDNamespace: true}, []brief{{doctor.Userns, doctor.OK}}, ""},
		{"no PID namespace", userns.State{Mode: userns.Identity, UIDMap: ids, GIDMap: ids}, []brief{{doctor.Userns, doctor.OK}, {doctor.IDMap, doctor.OK}, {doctor.PIDNamespace, doctor.Degraded}}, "65537 user ids and 65537 group ids"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found := namespaces(&tc.state)
			if diff := cmp.Diff(tc.want, briefs(found)); diff != "" {
				t.Error(diff)
			}
			if len(found) > 1 && found[1].Summary != tc.ids {
				t.Errorf("ids: %q", found[1].Summary)
			}
		})
	}
}

// TestTrialFindings: a lesser /proc and a refused pivot_root are reported, each with what to do.
func TestTrialFindings(t *testing.T) {
	for _, tc := range []struct {
		name string
		t    trial
		want []brief
	}{
		{"well", trial{proc: sandbox.ProcFresh}, []brief{{doctor.Sandbox, doctor.OK}, {doctor.Proc, doctor.OK}}},
		{"subset", trial{proc: sandbox.ProcSubset}, []brief{{doctor.Sandbox, doctor.OK}, {doctor.Proc, doctor.Degraded}}},
		{"bind, chroot", trial{proc: sandbox.ProcBind, degraded: []string{"chroot"}}, []brief{{doctor.Sandbox, doctor.OK}, {doctor.Proc, doctor.Degraded}, {doctor.PivotRoot, doctor.Degraded}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found := tc.t.findings()
			if diff := cmp.Diff(tc.want, briefs(found)); diff != "" {
				t.Error(diff)
			}
			for _, f := range found {
				if (f.Fix == "") != (f.Status == doctor.OK) {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

// TestUntried: a finding of Outside is named, not repeated.
func TestUntried(t *testing.T) {
	dir := t.TempDir()
	o := Options{Store: dir, Temp: dir, RunRoot: dir}
	for _, tc := range []struct {
		name string
		err  error
		want doctor.Finding
	}{
		{"unknown", io.EOF, doctor.Finding{ID: doctor.Sandbox, Status: doctor.Missing, Summary: "EOF"}},
		{
			"quota", unix.EDQUOT,
			doctor.Finding{ID: doctor.Sandbox, Status: doctor.Missing, Summary: "could not be tried: see store-disk", Detail: "disk quota exceeded"},
		},
		{
			"overlay", &overlay.Error{Detail: "is on NFS", Fix: "pass --root", Err: unix.EINVAL},
			doctor.Finding{ID: doctor.Sandbox, Status: doctor.Missing, Summary: "is on NFS", Detail: "invalid argument", Fix: "pass --root"},
		},
		{
			"denied", &fs.PathError{Op: "mkdir", Path: filepath.Join(dir, "x"), Err: unix.EACCES},
			doctor.Finding{
				ID: doctor.Sandbox, Status: doctor.Missing, Summary: "this user cannot use the store's directory " + dir,
				Detail: "mkdir " + filepath.Join(dir, "x") + ": permission denied",
				Fix:    "pass --root with a directory of your own; in a pod give the volume to the user with fsGroup",
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, o.untried(doctor.Sandbox, tc.err)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestInside runs a process as RUN does, and leaves nothing behind.
func TestInside(t *testing.T) {
	nstest.Need(t)
	dir := t.TempDir()
	o := Options{Store: filepath.Join(dir, "store"), Temp: dir, RunRoot: filepath.Join(dir, "run")}
	found := Inside(t.Context(), &userns.State{Mode: userns.Helper, PIDNamespace: true}, o)

	byID := map[doctor.ID]doctor.Finding{}
	for _, f := range found {
		byID[f.ID] = f
	}
	for _, id := range []doctor.ID{doctor.Overlay, doctor.Sandbox} {
		if byID[id].Status != doctor.OK {
			t.Errorf("%s: %+v", id, byID[id])
		}
	}
	if f := byID[doctor.Network]; f.Status != doctor.Degraded || !strings.Contains(f.Summary, "neither pasta nor slirp4netns") {
		t.Errorf("with an empty PATH: %+v", f)
	}
	if f := byID[doctor.Emulators]; f.ID == "" {
		t.Error("no finding about emulators")
	}

	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestRefusal: an overlay that works counts for nothing while the storage library remembers a failure.
func TestRefusal(t *testing.T) {
	nstest.Need(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "overlay", "overlay-false")
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o700), os.WriteFile(file, []byte("no overlay here"), 0o600)); err != nil {
		t.Fatal(err)
	}
	found := overlays(Options{Store: dir, RunRoot: dir})
	if len(found) != 1 || found[0].Status != doctor.Missing || found[0].Fix != "rm "+file || found[0].Detail != "no overlay here" {
		t.Errorf("%+v", found)
	}
	if none := overlays(Options{RunRoot: dir}); none != nil {
		t.Errorf("without a store: %+v", none)
	}
}
