package sandbox

import (
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// seccompData is struct seccomp_data.
type seccompData struct {
	number, arch uint32
	args         [6]uint64
}

func (d seccompData) word(t *testing.T, offset uint32) uint32 {
	t.Helper()
	switch {
	case offset == offsetNumber:
		return d.number
	case offset == offsetArch:
		return d.arch
	case offset >= offsetArgs && offset < offsetArgs+48 && offset%4 == 0:
		arg := d.args[(offset-offsetArgs)/8]
		return uint32(arg >> (8 * (offset % 8)))
	}

	t.Fatalf("load at offset %d", offset)
	return 0
}

// interpret runs the filter as the kernel does (struct sock_filter, BPF_*), and checks its jumps.
func interpret(t *testing.T, code []instruction, d seccompData) (value uint32, steps int) {
	t.Helper()
	var a uint32
	for pc := 0; ; pc++ {
		if pc >= len(code) {
			t.Fatalf("runs off the end at %d", pc)
		}
		steps++
		in := code[pc]
		jump := false
		switch in.code {
		case opLoad:
			a = d.word(t, in.k)
			continue
		case opAnd:
			a &= in.k
			continue
		case opReturn:
			return in.k, steps
		case opJump:
			pc += int(in.k)
			continue
		case opJumpEqual:
			jump = a == in.k
		case opJumpGreater:
			jump = a > in.k
		case opJumpGreaterEqual:
			jump = a >= in.k
		default:
			t.Fatalf("instruction %#x", in.code)
		}

		if jump {
			pc += int(in.jt)
		} else {
			pc += int(in.jf)
		}
	}
}

func filterOf(t *testing.T, s *specs.LinuxSeccomp) *Filter {
	t.Helper()
	f, err := NewFilter(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestDefaultProfile(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the numbers are those of amd64")
	}
	profile, err := DefaultSeccomp(DefaultCapabilities())
	if err != nil {
		t.Fatal(err)
	}
	f := filterOf(t, profile)
	number := func(table *arch.Info, name string) uint32 {
		n, ok := table.SyscallNames[name]
		if !ok {
			t.Fatalf("no number for %s", name)
		}
		return uint32(n)
	}

	const newNS = 0x20000 // CLONE_NEWNS
	fail := func(e syscall.Errno) uint32 { return retErrno | uint32(e) }
	tests := []struct {
		name  string
		table *arch.Info
		call  string
		args  [6]uint64
		want  uint32
	}{
		{"allowed", arch.X86_64, "read", [6]uint64{}, retAllow},
		{"after the filter", arch.X86_64, "capset", [6]uint64{}, retAllow},
		{"after the filter", arch.X86_64, "execve", [6]uint64{}, retAllow},
		{"not allowed", arch.X86_64, "kexec_load", [6]uint64{}, fail(syscall.EPERM)},
		{"needs a capability", arch.X86_64, "mount", [6]uint64{}, fail(syscall.EPERM)},
		{"given by a capability", arch.X86_64, "chroot", [6]uint64{}, retAllow},
		{"namespaces", arch.X86_64, "unshare", [6]uint64{newNS}, fail(syscall.EPERM)},
		{"clone of a thread", arch.X86_64, "clone", [6]uint64{0x3d0f00}, retAllow},
		{"clone of a namespace", arch.X86_64, "clone", [6]uint64{newNS | 17}, fail(syscall.EPERM)},
		{"clone3 is hidden", arch.X86_64, "clone3", [6]uint64{}, fail(syscall.ENOSYS)},
		{"personality", arch.X86_64, "personality", [6]uint64{8}, retAllow},
		{"personality", arch.X86_64, "personality", [6]uint64{1}, fail(syscall.EPERM)},
		{"personality, high half", arch.X86_64, "personality", [6]uint64{8 | 1<<40}, fail(syscall.EPERM)},
		{"vsock", arch.X86_64, "socket", [6]uint64{40}, fail(syscall.EPERM)},
		{"inet", arch.X86_64, "socket", [6]uint64{2}, retAllow},
		{"i386", arch.I386, "read", [6]uint64{}, retAllow},
		{"i386 of old", arch.I386, "waitpid", [6]uint64{}, retAllow},
		{"i386 not allowed", arch.I386, "mount", [6]uint64{}, fail(syscall.EPERM)},
		{"i386 clone", arch.I386, "clone", [6]uint64{newNS}, fail(syscall.EPERM)},
		{"x32", arch.X32, "read", [6]uint64{}, fail(syscall.ENOSYS)},
		{"foreign", arch.ARM, "read", [6]uint64{}, retKillProcess},
	}

	for _, tc := range tests {
		t.Run(tc.name+" "+tc.call, func(t *testing.T) {
			n := number(tc.table, tc.call)
			if tc.table == arch.X32 {
				n |= firstX32
			}
			got, _ := interpret(t, f.code, seccompData{n, uint32(tc.table.ID), tc.args})
			if got != tc.want {
				t.Errorf("got %#x, want %#x", got, tc.want)
			}
		})
	}

	if got, _ := interpret(t, f.code, seccompData{number: 100000, arch: uint32(arch.X86_64.ID)}); got != fail(syscall.ENOSYS) {
		t.Errorf("a call that is newer than the profile: %#x", got)
	}
	longest := 0
	for n := range uint32(600) {
		_, steps := interpret(t, f.code, seccompData{number: n, arch: uint32(arch.X86_64.ID)})
		longest = max(longest, steps)
	}

	t.Logf("%d instructions, at most %d for one call", len(f.code), longest)
	if longest > 40 {
		t.Errorf("%d instructions for one call", longest)
	}
}

// Every rule of the profile must come out as a slow and obvious reading of it says.
func TestFilterAgreesWithTheProfile(t *testing.T) {
	for _, caps := range [][]string{nil, DefaultCapabilities(), capabilityNames()} {
		profile, err := DefaultSeccomp(caps)
		if err != nil {
			t.Fatal(err)
		}
		f := filterOf(t, profile)
		tables, err := architectures(profile.Architectures)
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range tables {
			for n, name := range table.SyscallNumbers {
				for _, arg := range []uint64{0, 8, 40, 0x20000, 0xffffffff, 0x20008, 1 << 33} {
					d := seccompData{uint32(n), uint32(table.ID), [6]uint64{arg}}
					got, _ := interpret(t, f.code, d)
					if want, known := slowly(profile, name, d.args); known && got != want {
						t.Errorf("%s of %s with %#x: %#x, want %#x", name, table.Name, arg, got, want)
					}
				}
			}
		}
	}
}

// slowly finds the first rule for name that holds; unknown names may be ENOSYS or the default.
func slowly(s *specs.LinuxSeccomp, name string, args [6]uint64) (want uint32, known bool) {
	want, _ = action(s.DefaultAction, s.DefaultErrnoRet)
	for _, conditions := range []bool{true, false} {
		for _, call := range s.Syscalls {
			if !slices.Contains(call.Names, name) {
				continue
			}
			known = true
			if (len(call.Args) > 0) == conditions && !slices.ContainsFunc(call.Args, func(a specs.LinuxSeccompArg) bool { return !holds(a, args) }) {
				value, _ := action(call.Action, call.ErrnoRet)
				return value, true
			}
		}
	}

	return want, known
}

func holds(a specs.LinuxSeccompArg, args [6]uint64) bool {
	v := args[a.Index]
	switch a.Op {
	case specs.OpEqualTo:
		return v == a.Value
	case specs.OpNotEqual:
		return v != a.Value
	case specs.OpLessThan:
		return v < a.Value
	case specs.OpLessEqual:
		return v <= a.Value
	case specs.OpGreaterThan:
		return v > a.Value
	case specs.OpGreaterEqual:
		return v >= a.Value
	case specs.OpMaskedEqual:
		return v&a.Value == a.ValueTwo
	}

	return false
}

func TestOperators(t *testing.T) {
	values := []uint64{0, 1, 5, 6, 7, 1<<32 - 1, 1 << 32, 1<<32 + 5, 1<<32 + 6, 1<<32 + 7, 1<<33 + 6, 1<<63 + 6}
	ops := []specs.LinuxSeccompOperator{
		specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpGreaterThan,
		specs.OpGreaterEqual, specs.OpMaskedEqual,
	}

	native, err := architectures(nil)
	if err != nil {
		t.Fatal(err)
	}
	n := uint32(native[0].SyscallNames["read"])
	for _, op := range ops {
		for _, value := range []uint64{6, 1<<32 + 6} {
			args := []specs.LinuxSeccompArg{{Index: 2, Op: op, Value: value, ValueTwo: 6}, {Index: 5, Op: specs.OpEqualTo, Value: 9}}
			f := filterOf(t, &specs.LinuxSeccomp{
				DefaultAction: specs.ActAllow,
				Syscalls:      []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActErrno, ErrnoRet: new(uint(99)), Args: args}},
			})

			for _, v := range values {
				for _, last := range []uint64{9, 10, 1<<32 + 9} {
					d := seccompData{n, uint32(native[0].ID), [6]uint64{2: v, 5: last}}
					got, _ := interpret(t, f.code, d)
					want := uint32(retAllow)
					if holds(args[0], d.args) && last == 9 {
						want = retErrno | 99
					}
					if got != want {
						t.Errorf("%#x %s %#x, %d: %#x, want %#x", v, op, value, last, got, want)
					}
				}
			}
		}
	}
}

func TestFilterRefusals(t *testing.T) {
	call := func(c specs.LinuxSyscall) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{c}}
	}
	tests := []struct {
		profile *specs.LinuxSeccomp
		want    string
	}{
		{&specs.LinuxSeccomp{DefaultAction: "SCMP_ACT_NONE"}, `action "SCMP_ACT_NONE" is not supported`},
		{&specs.LinuxSeccomp{DefaultAction: specs.ActErrno, DefaultErrnoRet: new(uint(70000))}, "too high"},
		{&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/x"}, "listener"},
		{&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"X"}}, `flag "X"`},
		{call(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActNotify}), "SCMP_ACT_NOTIFY"},
		{call(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}}), "argument 6"},
		{call(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Op: "?"}}}), `operator "?"`},
	}

	for _, tc := range tests {
		_, err := NewFilter(tc.profile)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("got %v, want %q", err, tc.want)
		}
	}
}

func BenchmarkNewFilter(b *testing.B) {
	for b.Loop() {
		profile, err := DefaultSeccomp(DefaultCapabilities())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := NewFilter(profile); err != nil {
			b.Fatal(err)
		}
	}
}

func TestParseSeccomp(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"mkdir","action":"SCMP_ACT_ERRNO"}]}`, ""},
		{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":null}`, ""},
		{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[null]}`, "a rule is null"},
		{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ALLOW"}]}`, "both 'name' and 'names'"},
		{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":{}}`, "cannot unmarshal"},
		{`{}`, "neither a default action nor rules"},
		{`null`, "neither a default action nor rules"},
		{``, "unexpected end"},
		{`{} {}`, "after top-level value"},
		{`[]`, "cannot unmarshal"},
	} {
		_, err := ParseSeccomp([]byte(tc.text), DefaultCapabilities())
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: got %v, want %q", tc.text, err, tc.want)
		}
	}

	// A rule of a capability is there with it alone.
	text := []byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"mkdir","action":"SCMP_ACT_ERRNO","includes":{"caps":["CAP_SYS_ADMIN"]}}]}`)
	for _, caps := range [][]string{{"CAP_SYS_ADMIN"}, {"CAP_KILL"}} {
		if p, err := ParseSeccomp(text, caps); err != nil || len(p.Syscalls) == 1 != (caps[0] == "CAP_SYS_ADMIN") {
			t.Errorf("%v: %+v, %v", caps, p, err)
		}
	}
}

// TestRun compares the two interpreters of filters, this file's and that of Check.
func TestRun(t *testing.T) {
	profile, err := DefaultSeccomp(DefaultCapabilities())
	if err != nil {
		t.Fatal(err)
	}
	f := filterOf(t, profile)
	if err := f.Check(false); err != nil {
		t.Error(err)
	}
	native, err := architectures(nil)
	if err != nil {
		t.Fatal(err)
	}
	for nr := range uint32(600) {
		for _, arg := range []uint64{0, 0x10000000, 40 << 32} {
			want, _ := interpret(t, f.code, seccompData{arch: uint32(native[0].ID), number: nr, args: [6]uint64{arg}})
			if got := f.run(nr, arg); got != want {
				t.Errorf("call %d with %#x: %#x, want %#x", nr, arg, got, want)
			}
		}
	}
}
