package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/program"
	"codeberg.org/rbuild/rbuild/internal/remedy"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

func TestWrite(t *testing.T) {
	findings := []Finding{
		{ID: "registry:example.com", Status: Missing, Summary: "no\nanswer", Fix: "ask"},
		{ID: idGit, Status: Degraded, Summary: "there is no git", Detail: "never shown", Fix: "install git"},
		{ID: idKernel, Status: OK, Summary: "Linux 6", Fix: "nothing"},
	}

	for _, tc := range []struct {
		name string
		r    Report
		want string
	}{
		{"well", NewReport(userns.Root, findings[2:]), "RUN works here, as root of the machine\n\nok        kernel  Linux 6\n"},
		{
			"not well", NewReport(userns.Helper, findings),
			`RUN works here, as an ordinary user, with ids mapped by newuidmap; 1 registry cannot be used; 1 thing is degraded

missing   registry:example.com  no answer
                                fix: ask
degraded  git                   there is no git
                                fix: install git

ok        kernel                Linux 6
`,
		},
		{
			"none", NewReport(None, []Finding{{ID: idUserns, Status: Missing, Summary: "a"}, {ID: idOverlay, Status: Missing, Summary: "\x1b]b\u202e"}}),
			"RUN does not work here: 2 things are missing\n\nmissing   userns   a\nmissing   overlay  \\x1b]b\\u202e\n",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var b strings.Builder
			if err := tc.r.Write(&b); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, b.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestReport: what makes RUN work, and what an exit code is made of.
func TestReport(t *testing.T) {
	for _, tc := range []struct {
		name         string
		findings     []Finding
		run, healthy bool
	}{
		{"nothing", nil, true, true},
		{"degraded", []Finding{{ID: idProc, Status: Degraded}}, true, true},
		{"missing", []Finding{{ID: idProc, Status: Degraded}, {ID: idOverlay, Status: Missing}}, false, false},
		{"registry", []Finding{{ID: idRegistry + "x", Status: Missing}}, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := NewReport(userns.Helper, tc.findings)
			if r.Run != tc.run || r.Healthy() != tc.healthy {
				t.Errorf("%+v, healthy %t", r, r.Healthy())
			}
		})
	}

	text, err := json.Marshal(NewReport(None, []Finding{{ID: idGit, Status: OK, Summary: "s"}}))
	if want := `{"mode":"none","run":true,"findings":[{"id":"git","status":"ok","summary":"s"}]}`; err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
}

// TestDocs: each id is in the document, and each script that it names is there.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range append(order(), idRegistry+"HOST") {
		if !strings.Contains(string(text), "`"+id+"`") {
			t.Errorf("docs/doctor.md does not tell of %s", id)
		}
	}

	for _, m := range regexp.MustCompile("`(doctor(_[a-z]+)?)`").FindAllStringSubmatch(string(text), -1) {
		found, err := filepath.Glob("../../tests/integration/*/" + m[1] + ".txtar")
		if err != nil || len(found) == 0 {
			t.Errorf("docs/doctor.md names %s, which there is not", m[1])
		}
	}
}

func TestRefused(t *testing.T) {
	ids := &userns.Error{Reason: userns.HelperRights, Detail: "newuidmap has no privilege", Fix: "setcap", Err: io.EOF}
	for _, tc := range []struct {
		name string
		err  error
		want Finding
	}{
		{"ids", ids, Finding{idIDMap, Degraded, "newuidmap has no privilege", "EOF", "setcap"}},
		{
			"namespace", &userns.Error{Reason: userns.Seccomp, Detail: "a filter", Fix: "hostUsers: false"},
			Finding{ID: idUserns, Status: Missing, Summary: "a filter", Fix: "hostUsers: false"},
		},
		{"other", io.EOF, Finding{ID: idUserns, Status: Missing, Summary: "EOF"}},
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
		name  string
		bytes room
		nodes room
		want  []Status
	}{
		{"room", room{50 * gib, 100 * gib}, room{1e6, 2e6}, []Status{OK, OK}},
		{"no inodes counted", room{50 * gib, 100 * gib}, room{}, []Status{OK}},
		{"no size told", room{}, room{}, []Status{OK}},
		{"nearly full", room{gib - 1, 100 * gib}, room{9999, 2e6}, []Status{Degraded, Degraded}},
		{"full", room{1<<20 - 1, 100 * gib}, room{1e6, 2e6}, []Status{Missing, OK}},
		{"inodes gone", room{50 * gib, 100 * gib}, room{15, 2e6}, []Status{OK, Missing}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := place{what: "the store", dir: "/x", disk: idStoreDisk, inodes: idStoreInodes, fix: "mend it", bytes: tc.bytes, number: tc.nodes}
			var got []Status
			for _, f := range p.findings() {
				got = append(got, f.Status)
				if (f.Status == OK) != (f.Fix == "") {
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
