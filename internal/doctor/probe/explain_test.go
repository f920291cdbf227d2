package probe

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/doctor"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/program"
	"codeberg.org/rbuild/rbuild/internal/remedy"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

func TestRefused(t *testing.T) {
	ids := &userns.Error{Reason: userns.HelperRights, Detail: "newuidmap has no privilege", Fix: "setcap", Err: io.EOF}
	for _, tc := range []struct {
		name string
		err  error
		want doctor.Finding
	}{
		{"ids", ids, doctor.Finding{ID: doctor.IDMap, Status: doctor.Degraded, Summary: "newuidmap has no privilege", Detail: "EOF", Fix: "setcap"}},
		{
			"namespace", &userns.Error{Reason: userns.Seccomp, Detail: "a filter", Fix: "hostUsers: false"},
			doctor.Finding{ID: doctor.Userns, Status: doctor.Missing, Summary: "a filter", Fix: "hostUsers: false"},
		},
		{"other", io.EOF, doctor.Finding{ID: doctor.Userns, Status: doctor.Missing, Summary: "EOF"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Refused(tc.err)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPlaceFindings(t *testing.T) {
	const gib = 1 << 30
	for _, tc := range []struct {
		name   string
		bytes  fdfs.Usage
		inodes fdfs.Usage
		want   []doctor.Status
	}{
		{"room", fdfs.Usage{Free: 50 * gib, Total: 100 * gib}, fdfs.Usage{Free: 1e6, Total: 2e6}, []doctor.Status{doctor.OK, doctor.OK}},
		{"no inodes counted", fdfs.Usage{Free: 50 * gib, Total: 100 * gib}, fdfs.Usage{}, []doctor.Status{doctor.OK}},
		{"no size told", fdfs.Usage{}, fdfs.Usage{}, []doctor.Status{doctor.OK}},
		{"nearly full", fdfs.Usage{Free: gib - 1, Total: 100 * gib}, fdfs.Usage{Free: 9999, Total: 2e6}, []doctor.Status{doctor.Degraded, doctor.Degraded}},
		{"full", fdfs.Usage{Free: 1<<20 - 1, Total: 100 * gib}, fdfs.Usage{Free: 1e6, Total: 2e6}, []doctor.Status{doctor.Missing, doctor.OK}},
		{"inodes gone", fdfs.Usage{Free: 50 * gib, Total: 100 * gib}, fdfs.Usage{Free: 15, Total: 2e6}, []doctor.Status{doctor.OK, doctor.Missing}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := place{name: "the store", dir: "/x", disk: doctor.StoreDisk, inodes: doctor.StoreInodes, fix: "mend it"}
			p.Bytes, p.Inodes = tc.bytes, tc.inodes
			var got []doctor.Status
			for _, f := range p.findings() {
				got = append(got, f.Status)
				if (f.Status == doctor.OK) != (f.Fix == "") {
					t.Errorf("%+v", f)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if _, full := p.full(); full != (tc.name == "full" || tc.name == "inodes gone") {
				t.Errorf("full: %t", full)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	dir := t.TempDir()
	o := Options{Store: filepath.Join(dir, "not/yet"), Temp: dir, RunRoot: dir}
	overlays := &overlay.Error{Dir: dir, Detail: "is on an overlay", Fix: "mount a volume", Err: unix.EINVAL}
	for _, tc := range []struct {
		name string
		err  error
		want []string // parts of the text, in order
		same bool
	}{
		{"other", io.EOF, []string{"EOF"}, true},
		{"told already", fmt.Errorf("x: %w", &remedy.Error{Why: "full", Err: unix.ENOSPC}), nil, true},
		{"overlay tells itself", overlays, []string{"is on an overlay; mount a volume"}, true},
		{"no space", &fs.PathError{Op: "write", Path: "/a", Err: unix.ENOSPC}, []string{"write /a: no space left on device; now ", "are free for the store", "rbuild prune"}, false},
		{"namespaces tell themselves", fmt.Errorf("RUN: %w", &userns.Error{Detail: "no space left on device", Err: unix.ENOSPC}), nil, true},
		{"no space, by text", errors.New("unpacking: no space left on device"), []string{"unpacking: no space left on device; now ", "rbuild prune"}, false},
		{"quota", fmt.Errorf("copying: %w", unix.EDQUOT), []string{"disk quota exceeded; the user's quota is used up; rbuild prune"}, false},
		{"clone", fmt.Errorf("starting: %w", os.NewSyscallError("clone", unix.EUSERS)), []string{"creating the user namespace of RUN: too many users", "max_user_namespaces"}, false},
		{"mount", fmt.Errorf("starting: %w", &program.Failure{What: "mounting tmpfs at /dev", Errno: unix.EPERM}), []string{"mounting tmpfs at /dev: operation not permitted ("}, false},
		{"mount for another reason", &program.Failure{What: "mounting tmpfs at /dev", Errno: unix.ENOENT}, nil, true},
		{"denied", &fs.PathError{Op: "mkdir", Path: filepath.Join(dir, "not"), Err: unix.EACCES}, []string{"mkdir", "this user cannot use the store's directory", "--root"}, false},
		{"denied below", &fs.PathError{Op: "open", Path: filepath.Join(o.Store, "lock"), Err: unix.EACCES}, []string{"open", "this user cannot use the store's directory"}, false},
		{"denied beside", &fs.PathError{Op: "open", Path: filepath.Join(dir, "file"), Err: unix.EACCES}, nil, true},
		{"denied elsewhere", &fs.PathError{Op: "open", Path: "/somewhere", Err: unix.EACCES}, nil, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Explain(tc.err, o)
			if tc.same != (got == tc.err) || !errors.Is(got, tc.err) { //nolint:errorlint // whether it is the same
				t.Fatalf("got %v", got)
			}
			rest, ok := got.Error(), false
			for _, part := range tc.want {
				if _, rest, ok = strings.Cut(rest, part); !ok {
					t.Errorf("%q lacks %q", got, part)
				}
			}
		})
	}

	if err := Explain(nil, o); err != nil {
		t.Error(err)
	}
	if err := ExplainFull(syscall.EINVAL, o); !errors.Is(err, syscall.EINVAL) || err.Error() != syscall.EINVAL.Error() {
		t.Errorf("on a file system that is not full: %v", err)
	}
}

// TestRemembered is a failure that the storage library keeps, although overlays work.
func TestRemembered(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "overlay"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay", "overlay-false"), []byte("no overlay here"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := Options{RunRoot: dir}
	if !o.remembered(errors.New("opening: no overlay here")) || o.remembered(io.EOF) {
		t.Error("the file is not read")
	}
}

func TestExisting(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := existing(filepath.Join(dir, "a/b/c")); got != dir || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := existing(filepath.Join(dir, "file")); !errors.Is(err, unix.ENOTDIR) {
		t.Error(err)
	}
}
