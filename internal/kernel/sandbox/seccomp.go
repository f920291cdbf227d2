package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"syscall"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// DefaultSeccomp returns docker's default profile for a process with the bounding set caps, on this
// machine's architecture and kernel.
func DefaultSeccomp(caps []string) (*specs.LinuxSeccomp, error) {
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}}
	profile, err := seccomp.GetDefaultProfile(spec)
	if err != nil {
		return nil, fmt.Errorf("resolving docker's default seccomp profile: %w", err)
	}
	return profile, nil
}

// ParseSeccomp reads a profile in docker's JSON format for a process with the bounding set caps, on
// this machine's architecture and kernel. A profile without default action and without rules, which
// docker ignores, is an error.
func ParseSeccomp(text []byte, caps []string) (*specs.LinuxSeccomp, error) {
	var shape struct{ Syscalls []*struct{} }
	if err := json.Unmarshal(text, &shape); err != nil {
		return nil, fmt.Errorf("reading the seccomp profile: %w", err)
	}
	if slices.Contains(shape.Syscalls, nil) { // moby/profiles v0.2.3 follows the pointer
		return nil, errors.New("reading the seccomp profile: a rule is null")
	}

	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}}
	profile, err := seccomp.LoadProfile(string(text), spec)
	if err != nil {
		return nil, fmt.Errorf("reading the seccomp profile: %w", err)
	}
	if profile == nil {
		return nil, errors.New("reading the seccomp profile: it has neither a default action nor rules")
	}
	return profile, nil
}

// Filter is a compiled seccomp profile. Several processes may use one Filter at the same time.
type Filter struct {
	code  []instruction
	flags int
	keys  bool // the profile may allow system calls for keys (keyrings(7))
}

// instruction is struct sock_filter of <linux/filter.h>: classic BPF.
type instruction struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

// NewFilter compiles a profile of a runtime-spec.
//
// The filter finds the rule of a system call by a binary search over ranges of numbers with the
// same outcome, not by the usual chain of comparisons. When a filter is installed, the kernel runs
// it once for each number, to learn the calls that are always allowed; that time is part of each
// start.
//
// As with runc: a name that an architecture lacks is ignored. A call with a higher number than all
// calls of the profile fails with ENOSYS, so that programs fall back. A process of a foreign
// architecture is killed. Calls of the x32 ABI fail with ENOSYS, as on kernels without that ABI.
// Rules with conditions on arguments win over the rule without, and that rule wins over the
// default.
func NewFilter(s *specs.LinuxSeccomp) (*Filter, error) {
	if s.ListenerPath != "" || s.ListenerMetadata != "" {
		return nil, errors.New("compiling the seccomp profile: a listener is not supported")
	}

	flags, err := filterFlags(s.Flags)
	if err != nil {
		return nil, fmt.Errorf("compiling the seccomp profile: %w", err)
	}

	def, err := action(s.DefaultAction, s.DefaultErrnoRet)
	if err != nil {
		return nil, fmt.Errorf("compiling the seccomp profile: %w", err)
	}

	tables, err := architectures(s.Architectures)
	if err != nil {
		return nil, fmt.Errorf("compiling the seccomp profile: %w", err)
	}

	code := []instruction{{code: opLoad, k: offsetArch}}
	for _, table := range tables {
		body, err := compileTable(s, table, def)
		if err != nil {
			return nil, fmt.Errorf("compiling the seccomp profile: %w", err)
		}
		code = append(code, instruction{code: opJumpEqual, jt: 1, k: uint32(table.ID)},
			instruction{code: opJump, k: uint32(len(body))})
		code = append(code, body...)
	}

	code = append(code, ret(retKillProcess))
	if len(code) > maxInstructions {
		return nil, fmt.Errorf("compiling the seccomp profile: %d instructions, the kernel takes %d", len(code), maxInstructions)
	}

	return &Filter{code: code, flags: flags, keys: letsKeys(s)}, nil
}

// letsKeys reports whether a profile may allow a system call for keys.
func letsKeys(s *specs.LinuxSeccomp) bool {
	lets := func(a specs.LinuxSeccompAction) bool {
		return a == specs.ActAllow || a == specs.ActLog || a == specs.ActTrace
	}
	return lets(s.DefaultAction) || slices.ContainsFunc(s.Syscalls, func(c specs.LinuxSyscall) bool {
		return lets(c.Action) && slices.ContainsFunc(c.Names, func(name string) bool {
			return name == "keyctl" || name == "request_key" || name == "add_key"
		})
	})
}

// From <linux/bpf_common.h>, <linux/seccomp.h>. Offsets are of struct seccomp_data.
const (
	opLoad             = 0x20 // BPF_LD|BPF_W|BPF_ABS
	opAnd              = 0x54 // BPF_ALU|BPF_AND|BPF_K
	opJump             = 0x05 // BPF_JMP|BPF_JA
	opJumpEqual        = 0x15
	opJumpGreater      = 0x25
	opJumpGreaterEqual = 0x35
	opReturn           = 0x06

	offsetNumber    = 0
	offsetArch      = 4
	offsetArgs      = 16
	maxInstructions = 4096 // BPF_MAXINSNS

	retKillProcess = 0x80000000
	retKillThread  = 0x00000000
	retTrap        = 0x00030000
	retErrno       = 0x00050000
	retTrace       = 0x7ff00000
	retLog         = 0x7ffc0000
	retAllow       = 0x7fff0000

	flagTSync     = 1 << 0
	flagLog       = 1 << 1
	flagSpecAllow = 1 << 2
	firstX32      = 0x40000000
	maxErrno      = 4095
	retData       = 0xffff
)

func ret(value uint32) instruction { return instruction{code: opReturn, k: value} }

// filterFlags returns the flags for seccomp(2). Without names, speculation stays allowed, as with
// runc.
func filterFlags(names []specs.LinuxSeccompFlag) (int, error) {
	if len(names) == 0 {
		return flagSpecAllow, nil
	}

	flags := 0
	for _, name := range names {
		switch name {
		case "SECCOMP_FILTER_FLAG_TSYNC":
			flags |= flagTSync
		case specs.LinuxSeccompFlagLog:
			flags |= flagLog
		case specs.LinuxSeccompFlagSpecAllow:
			flags |= flagSpecAllow
		case specs.LinuxSeccompFlagWaitKillableRecv: // for listeners
			fallthrough
		default:
			return 0, fmt.Errorf("flag %q is not supported", name)
		}
	}

	return flags, nil
}

// action returns the value that the filter returns for an action. errno nil: EPERM.
func action(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	data := uint32(syscall.EPERM)
	if errno != nil {
		if *errno > maxErrno {
			return 0, fmt.Errorf("error number %d is too high", *errno)
		}
		data = uint32(*errno)
	}

	switch a {
	case specs.ActKill, specs.ActKillThread:
		return retKillThread, nil
	case specs.ActKillProcess:
		return retKillProcess, nil
	case specs.ActTrap:
		return retTrap, nil
	case specs.ActErrno:
		return retErrno | data, nil
	case specs.ActTrace:
		return retTrace | data, nil
	case specs.ActLog:
		return retLog, nil
	case specs.ActAllow:
		return retAllow, nil
	case specs.ActNotify: // there is no listener
	}

	return 0, fmt.Errorf("action %q is not supported", a)
}

// architectures returns the tables of system calls of the profile's architectures that this machine
// can run. The first is the native architecture.
func architectures(names []specs.Arch) ([]*arch.Info, error) {
	var tables []*arch.Info
	switch runtime.GOARCH {
	case "amd64":
		tables = append(tables, arch.X86_64)
		if slices.Contains(names, specs.ArchX86) {
			tables = append(tables, arch.I386)
		}
	case "arm64":
		tables = append(tables, arch.AARCH64)
		if slices.Contains(names, specs.ArchARM) {
			tables = append(tables, arch.ARM)
		}
	default:
		return nil, fmt.Errorf("no table of system calls for %s", runtime.GOARCH)
	}

	return tables, nil
}

// rule is the outcome of one system call: the action of the first case whose conditions all hold,
// else last.
type rule struct {
	cases []conditional
	last  uint32
	final bool // last is from a rule of the profile, not its default action
}

type conditional struct {
	args   []specs.LinuxSeccompArg
	action uint32
}

// compileTable compiles the part of the filter for one architecture.
func compileTable(s *specs.LinuxSeccomp, table *arch.Info, def uint32) ([]instruction, error) {
	rules := map[uint32]*rule{}
	for _, call := range s.Syscalls {
		act, err := action(call.Action, call.ErrnoRet)
		if err != nil {
			return nil, err
		}
		for _, name := range call.Names {
			n, ok := table.SyscallNames[name]
			if !ok {
				continue
			}
			r := rules[uint32(n)]
			if r == nil {
				r = &rule{last: def}
				rules[uint32(n)] = r
			}
			r.add(call.Args, act)
		}
	}

	ranges, err := outcomes(rules, def)
	if err != nil {
		return nil, err
	}

	return append([]instruction{{code: opLoad, k: offsetNumber}}, search(ranges)...), nil
}

func (r *rule) add(args []specs.LinuxSeccompArg, act uint32) {
	switch {
	case len(args) == 0 && !r.final:
		r.last, r.final = act, true
	case len(args) == 0:
	case sameIndexTwice(args):
		// As runc does for older profiles: several conditions on one argument are alternatives.
		for _, arg := range args {
			r.cases = append(r.cases, conditional{[]specs.LinuxSeccompArg{arg}, act})
		}
	default:
		r.cases = append(r.cases, conditional{args, act})
	}
}

func sameIndexTwice(args []specs.LinuxSeccompArg) bool {
	seen := map[uint]bool{}
	for _, arg := range args {
		if seen[arg.Index] {
			return true
		}
		seen[arg.Index] = true
	}
	return false
}

// span is a range of system call numbers, from first to the next span's first, and the code for the
// range.
type span struct {
	first uint32
	code  []instruction
}

// outcomes returns the spans of all system call numbers, sorted.
func outcomes(rules map[uint32]*rule, def uint32) ([]span, error) {
	spans := []span{{0, []instruction{ret(def)}}}
	add := func(first uint32, code []instruction) {
		last := &spans[len(spans)-1]
		switch {
		case slices.Equal(last.code, code):
		case last.first == first:
			last.code = code
			if n := len(spans); n > 1 && slices.Equal(spans[n-2].code, code) {
				spans = spans[:n-1]
			}
		default:
			spans = append(spans, span{first, code})
		}
	}

	next := uint32(0)
	for _, n := range slices.Sorted(maps.Keys(rules)) {
		if n > next {
			add(next, []instruction{ret(def)})
		}
		code, err := rules[n].compile()
		if err != nil {
			return nil, err
		}
		add(n, code)
		next = n + 1
	}

	unknown := def
	if def != retAllow && def != retLog && def&^retData != retTrace && len(rules) > 0 {
		unknown = retErrno | uint32(syscall.ENOSYS)
	}
	add(next, []instruction{ret(unknown)})
	add(firstX32, []instruction{ret(retErrno | uint32(syscall.ENOSYS))})

	return spans, nil
}

// search returns code that jumps to the span of the number in the accumulator.
func search(spans []span) []instruction {
	if len(spans) == 1 {
		return spans[0].code
	}

	middle := len(spans) / 2
	low, high := search(spans[:middle]), search(spans[middle:])
	jump := instruction{code: opJumpGreaterEqual, k: spans[middle].first, jt: uint8(len(low))}
	code := []instruction{jump}
	if len(low) > 255 { // beyond a conditional jump
		code[0].jt, code[0].jf = 0, 1
		code = append(code, instruction{code: opJump, k: uint32(len(low))})
	}

	return append(append(code, low...), high...)
}

// compile returns the code of one rule.
func (r *rule) compile() ([]instruction, error) {
	var code []instruction
	for _, c := range r.cases {
		if c.action == r.last && len(r.cases) == 1 {
			continue
		}
		tests, err := c.compile()
		if err != nil {
			return nil, err
		}
		code = append(code, tests...)
	}

	return append(code, ret(r.last)), nil
}

// compile returns code that returns the action if all conditions hold, and continues behind itself
// if not.
func (c conditional) compile() ([]instruction, error) {
	code := []instruction{ret(c.action)}
	for _, arg := range slices.Backward(c.args) {
		test, err := compare(arg, len(code))
		if err != nil {
			return nil, err
		}
		code = append(test, code...)
	}
	return code, nil
}

// compare returns code that tests a 64-bit argument in two halves. The code continues behind itself
// if the condition holds, and skips the number skip of further instructions if not.
func compare(arg specs.LinuxSeccompArg, skip int) ([]instruction, error) {
	if arg.Index > 5 {
		return nil, fmt.Errorf("argument %d does not exist", arg.Index)
	}

	low := offsetArgs + 8*uint32(arg.Index) // little-endian, as all architectures here are
	loadHigh, loadLow := instruction{code: opLoad, k: low + 4}, instruction{code: opLoad, k: low}
	no := uint8(skip)
	vh, vl := uint32(arg.Value>>32), uint32(arg.Value)
	switch arg.Op {
	case specs.OpEqualTo:
		return []instruction{loadHigh, {opJumpEqual, 0, no + 2, vh}, loadLow, {opJumpEqual, 0, no, vl}}, nil
	case specs.OpNotEqual:
		return []instruction{loadHigh, {opJumpEqual, 0, 2, vh}, loadLow, {opJumpEqual, no, 0, vl}}, nil
	case specs.OpMaskedEqual:
		wh, wl := uint32(arg.ValueTwo>>32), uint32(arg.ValueTwo)
		return []instruction{
			loadHigh,
			{code: opAnd, k: vh},
			{opJumpEqual, 0, no + 3, wh},
			loadLow,
			{code: opAnd, k: vl},
			{opJumpEqual, 0, no, wl},
		}, nil
	case specs.OpGreaterThan:
		return []instruction{loadHigh, {opJumpGreater, 3, 0, vh}, {opJumpEqual, 0, no + 2, vh}, loadLow, {opJumpGreater, 0, no, vl}}, nil
	case specs.OpGreaterEqual:
		return []instruction{loadHigh, {opJumpGreater, 3, 0, vh}, {opJumpEqual, 0, no + 2, vh}, loadLow, {opJumpGreaterEqual, 0, no, vl}}, nil
	case specs.OpLessThan:
		return []instruction{loadHigh, {opJumpGreater, no + 3, 0, vh}, {opJumpEqual, 0, 2, vh}, loadLow, {opJumpGreaterEqual, no, 0, vl}}, nil
	case specs.OpLessEqual:
		return []instruction{loadHigh, {opJumpGreater, no + 3, 0, vh}, {opJumpEqual, 0, 2, vh}, loadLow, {opJumpGreater, no, 0, vl}}, nil
	}

	return nil, fmt.Errorf("operator %q is not supported", arg.Op)
}

// run interprets the filter for a system call of the native architecture and returns the filter's
// value.
func (f *Filter) run(nr uint32, args ...uint64) uint32 {
	native, err := architectures(nil)
	if err != nil {
		return retKillProcess
	}

	data := map[uint32]uint32{offsetNumber: nr, offsetArch: uint32(native[0].ID)}
	for i, arg := range args {
		data[offsetArgs+8*uint32(i)], data[offsetArgs+8*uint32(i)+4] = uint32(arg), uint32(arg>>32)
	}
	var a uint32
	for pc := 0; ; pc++ {
		jump := false
		switch in := f.code[pc]; in.code {
		case opLoad:
			a = data[in.k]
			continue
		case opAnd:
			a &= in.k
			continue
		case opReturn:
			return in.k
		case opJump:
			pc += int(in.k)
			continue
		case opJumpEqual:
			jump = a == in.k
		case opJumpGreater:
			jump = a > in.k
		case opJumpGreaterEqual:
			jump = a >= in.k
		}

		if jump {
			pc += int(f.code[pc].jt)
		} else {
			pc += int(f.code[pc].jf)
		}
	}
}
