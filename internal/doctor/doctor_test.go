package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/remedy"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

func TestWrite(t *testing.T) {
	findings := []Finding{
		{ID: "registry:example.com", Status: Missing, Summary: "no\nanswer", Fix: "ask"},
		{ID: Git, Status: Degraded, Summary: "there is no git", Detail: "never shown", Fix: "install git"},
		{ID: Kernel, Status: OK, Summary: "Linux 6", Fix: "nothing"},
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
			"none", NewReport(None, []Finding{{ID: Userns, Status: Missing, Summary: "a"}, {ID: Overlay, Status: Missing, Summary: "\x1b]b\u202e"}}),
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
		{"degraded", []Finding{{ID: Proc, Status: Degraded}}, true, true},
		{"missing", []Finding{{ID: Proc, Status: Degraded}, {ID: Overlay, Status: Missing}}, false, false},
		{"registry", []Finding{{ID: Registry + "x", Status: Missing}}, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := NewReport(userns.Helper, tc.findings)
			if r.Run != tc.run || r.Healthy() != tc.healthy {
				t.Errorf("%+v, healthy %t", r, r.Healthy())
			}
		})
	}

	text, err := json.Marshal(NewReport(None, []Finding{{ID: Git, Status: OK, Summary: "s"}}))
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
	for _, id := range append(order(), Registry+"HOST") {
		if !strings.Contains(string(text), "`"+string(id)+"`") {
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

// TestFromError: a finding has the cause and the remedy of an error, or its text.
func TestFromError(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want Finding
	}{
		{"another error", io.EOF, Finding{Git, Degraded, "EOF", "", ""}},
		{"cause and remedy", &remedy.Error{What: "git", Why: "is old", Do: "install", Err: io.EOF}, Finding{Git, Degraded, "git: is old", "EOF", "install"}},
		{"wrapped", fmt.Errorf("x: %w", &remedy.Error{Why: "is old"}), Finding{Git, Degraded, "is old", "", ""}},
		{"of a public package", &userns.Error{Detail: "no ids", Fix: "usermod", Err: io.EOF}, Finding{Git, Degraded, "no ids", "EOF", "usermod"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, FromError(Git, Degraded, tc.err)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestVerdict: the first line says whether RUN works, how builds become root, and how much is wrong.
func TestVerdict(t *testing.T) {
	bad := func(id ID, s Status) Finding { return Finding{ID: id, Status: s} }
	for _, tc := range []struct {
		name     string
		mode     userns.Mode
		findings []Finding
		want     string
	}{
		{"single id", userns.Single, nil, "RUN works here, as an ordinary user with a single id: what needs another is refused"},
		{"two registries", userns.Root, []Finding{bad(Registry+"a", Missing), bad(Registry+"b", Missing)}, "RUN works here, as root of the machine; 2 registries cannot be used"},
		{"two degraded", userns.Direct, []Finding{bad(Proc, Degraded), bad(Git, Degraded)}, "RUN works here, as root of a user namespace of its own; 2 things are degraded"},
		{"identity", userns.Identity, nil, "RUN works here, as root of the user namespace that this is"},
		{"no RUN", None, []Finding{bad(Userns, Missing)}, "RUN does not work here: 1 thing is missing"},
		{"without RUN", None, []Finding{bad(Userns, Missing), bad(WithoutRun, OK)}, "RUN does not work here: 1 thing is missing; Dockerfiles without RUN are built"},
		{"nothing", None, []Finding{bad(Userns, Missing), bad(WithoutRun, Missing)}, "RUN does not work here: 2 things are missing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := NewReport(tc.mode, tc.findings).verdict(); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestOrder: findings come in the order of the IDs, and registries last in the order in which they were asked.
func TestOrder(t *testing.T) {
	in := []Finding{{ID: Registry + "b"}, {ID: Policy}, {ID: Registry + "a"}, {ID: Kernel}, {ID: Store}}
	var got []ID
	for _, f := range NewReport(None, in).Findings {
		got = append(got, f.ID)
	}
	if diff := cmp.Diff([]ID{Kernel, Store, Policy, Registry + "b", Registry + "a"}, got); diff != "" {
		t.Error(diff)
	}
	if in[0].ID != Registry+"b" {
		t.Error("NewReport has changed the findings of its caller")
	}
}
