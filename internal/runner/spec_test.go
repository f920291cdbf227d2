package runner

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"codeberg.org/rbuild/rbuild/internal/copier"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
)

// TestDocument: the options and the command change docker's defaults.
func TestDocument(t *testing.T) {
	user := copier.User{UID: 7, GID: 8, Groups: []uint32{8, 9}, Home: "/home/app"}
	for _, tc := range []struct {
		name    string
		options Options
		command Command
		change  func(*specs.Spec)
	}{
		{name: "defaults", change: func(*specs.Spec) {}},
		{
			name:    "command",
			command: Command{Argv: []string{"make"}, Env: []string{"A=b", "HOME=/x"}, Dir: "src", Hostname: "box"},
			change: func(s *specs.Spec) {
				s.Process.Args = []string{"make"}
				s.Process.Env = []string{"A=b", "HOME=/x"}
				s.Process.Cwd = "/src"
				s.Hostname = "box"
			},
		},
		{
			name: "options",
			options: Options{
				Security: Security{NoNewPrivileges: true, AppArmor: "profile", CapDrop: []string{"all"}, CapAdd: []string{"kill"}, Mask: []string{"/secret"}},
				Limits:   Limits{Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NPROC", Soft: 1, Hard: 2}}},
			},
			change: func(s *specs.Spec) {
				s.Process.NoNewPrivileges = true
				s.Process.ApparmorProfile = "profile"
				caps := []string{"CAP_KILL"}
				s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
				s.Process.Rlimits = append(s.Process.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_NPROC", Soft: 1, Hard: 2})
				s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/secret")
			},
		},
		{
			name:    "insecure",
			command: Command{Insecure: true},
			change: func(s *specs.Spec) {
				all, _ := sandbox.MergeCapabilities([]string{"all"}, nil, nil)
				s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
				s.Linux.MaskedPaths = []string{}
				s.Linux.ReadonlyPaths = []string{}
			},
		},
		{
			name:    "insecure, real root: hidden paths stay",
			options: Options{Trusted: true},
			command: Command{Insecure: true},
			change: func(s *specs.Spec) {
				all, _ := sandbox.MergeCapabilities([]string{"all"}, nil, nil)
				s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want := sandbox.DefaultSpec()
			want.Hostname = "rbuild"
			want.Root = &specs.Root{Path: "rootfs"}
			want.Mounts = []specs.Mount{{Destination: "/x"}}
			want.Process.Args = nil
			want.Process.Env = []string{"HOME=/home/app"}
			want.Process.Cwd = "/"
			want.Process.User = specs.User{UID: 7, GID: 8, AdditionalGids: []uint32{8, 9}}
			tc.change(want)

			got, err := tc.options.document(tc.command, user, []specs.Mount{{Destination: "/x"}})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}

	o := Options{Security: Security{CapAdd: []string{"no-such"}}}
	if _, err := o.document(Command{}, user, nil); err == nil {
		t.Error("an unknown capability is accepted")
	}
}

// TestRlimits: a limit of the options replaces docker's of the same type.
func TestRlimits(t *testing.T) {
	l := Limits{Rlimits: []specs.POSIXRlimit{{Type: "A", Soft: 1}, {Type: "C", Soft: 3}}}
	got := l.over([]specs.POSIXRlimit{{Type: "A", Soft: 9}, {Type: "B", Soft: 2}})
	want := []specs.POSIXRlimit{{Type: "B", Soft: 2}, {Type: "A", Soft: 1}, {Type: "C", Soft: 3}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestExitErrorText(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  ExitError
		want string
	}{
		{"status", ExitError{Code: 3}, "exit status 3"},
		{"signal", ExitError{Code: 137, Signal: "signal 9 (killed)"}, "killed by signal 9 (killed)"},
		{"limit", ExitError{Code: 1, Limit: "limit of 9 processes reached"}, "exit status 1: limit of 9 processes reached"},
		{"killed", ExitError{Code: 137, Signal: "signal 9 (killed)", Limit: "memory limit reached", Killed: true}, "killed: memory limit reached"},
		{"a child was killed", ExitError{Code: 1, Limit: "memory limit reached", Killed: true}, "killed: memory limit reached (exit status 1)"},
		{"hint", ExitError{Code: 127, Hint: "install it"}, "exit status 127; install it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.err.Error(); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestExitError: only a process that ends with status 0 succeeds, whatever limit it reached.
func TestExitError(t *testing.T) {
	limit := reached{text: "memory limit reached", killed: true}
	for _, tc := range []struct {
		name  string
		state sandbox.State
		limit reached
		want  *ExitError
	}{
		{"success", sandbox.State{}, reached{}, nil},
		{"success at a limit", sandbox.State{}, limit, nil},
		{"status", sandbox.State{ExitCode: 2}, limit, &ExitError{Code: 2, Limit: limit.text, Killed: true}},
		{"signal", sandbox.State{Signal: 15}, reached{}, &ExitError{Code: 143, Signal: "signal 15 (terminated)"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, exitError(tc.state, tc.limit)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}

	if diff := cmp.Diff([]string{"a process was killed, but the command succeeded: memory limit reached"}, limit.warnings()); diff != "" {
		t.Errorf("killed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"the command succeeded, but x"}, reached{text: "x"}.warnings()); diff != "" {
		t.Errorf("reached (-want +got):\n%s", diff)
	}
}
