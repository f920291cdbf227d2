package program

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Program is a list of system calls, with the few jumps that fallbacks need, that was prepared
// completely before it is executed: every string, buffer and structure is allocated and kept
// alive by the Program, so that executing it needs no memory, no lock and no other thread. That
// is all that a process which was forked from a Go program may count on; see [Program.Start].
//
// The result of a call can be kept in a register and be an argument of later ones. A call that
// fails ends the program, unless its failure is tolerated. A Program is executed once and is not
// safe for concurrent use. The zero value is an empty program.
type Program struct {
	ops      []*Op
	regs     []uintptr
	labels   []int // index of an op; labels[0] is unused
	code     []instruction
	inherit  []int
	syncs    int
	record   [2]uint32
	syncByte *uint32
	keep     []any
	cgroup   Cgroup
	own      []*os.File
}

// A Cgroup is where a child of [Program.Start] begins.
type Cgroup interface {
	// Dir is the directory of a cgroup of version 2, in which the child can be born; nil: there is none.
	Dir() *os.File
	// Enter moves the calling thread into the cgroup, so that what it forks is born there, and returns how to leave it. It
	// fails where threads cannot be moved by themselves, as on version 2.
	Enter() (leave func() error, err error)
	// Add moves a process into the cgroup. The kernel waits for a grace period first, some milliseconds.
	Add(pid int) error
}

// InCgroup makes the child begin in c, before the first step given to Start is taken: it is born there where the kernel can
// do that, else moved while it waits.
func (p *Program) InCgroup(c Cgroup) { p.cgroup = c }

// A Reg is a register of a Program: an argument that becomes known while the program runs.
type Reg int

// A Label is a place in a Program that an op can go on at.
type Label int

// The registers that Start fills.
const (
	noReg     Reg = iota
	regReport     // the writing end of the pipe on which the child reports
	regSync       // the reading end of the pipe on which the child waits for its parent
	firstReg
)

// These numbers stand for operations of the Program itself.
const (
	opGoto uintptr = ^uintptr(0) - iota
	opFail
	opCheck
	opNeed
)

// maxTolerated is how many errors an op can tolerate.
const maxTolerated = 8

// An Op is one step of a Program.
type Op struct {
	what      string
	nr        uintptr
	args      []any
	out       Reg
	tolerated []syscall.Errno
	then      Label
	other     Label
	note      bool
	word      *uint32
	mask      uint32
	want      uint32
	errno     syscall.Errno
}

// instruction is an Op in the form in which it is executed: without pointers that the garbage
// collector would have to know of, except to the word that a check looks at.
type instruction struct {
	nr         uintptr
	args       [6]uintptr
	word       *uint32
	mask, want uint32
	then       int
	other      int
	out        uint16
	tolerated  [maxTolerated]uint16
	regs       uint8 // bit i: args[i] is the number of a register
	note       bool
}

// Reg returns a new register.
func (p *Program) Reg() Reg {
	p.init()
	p.regs = append(p.regs, 0)
	return Reg(len(p.regs) - 1)
}

// Label returns a new label; Mark gives it its place.
func (p *Program) Label() Label {
	p.init()
	p.labels = append(p.labels, -1)
	return Label(len(p.labels) - 1)
}

// Mark makes l the place of the op that is added next.
func (p *Program) Mark(l Label) { p.labels[l] = len(p.ops) }

func (p *Program) init() {
	if p.regs == nil {
		p.regs = make([]uintptr, firstReg)
		p.labels = []int{-1}
		p.syncByte = new(uint32)
	}
}

// Do adds the system call nr. What says in an error what it was for: a gerund and its object. An
// argument is an int, a uintptr, a Reg, an *os.File (which the child then inherits), a string, a
// []byte, a []string (a NULL-terminated vector) or what [Pointer] returns.
func (p *Program) Do(what string, nr uintptr, args ...any) *Op {
	p.init()
	op := &Op{what: what, nr: nr, args: args}
	p.ops = append(p.ops, op)
	return op
}

// Into keeps the result in r.
func (o *Op) Into(r Reg) *Op { o.out = r; return o }

// Tolerate lets the program go on after these errors, at the next op or at Else. At most 8.
func (o *Op) Tolerate(errnos ...syscall.Errno) *Op {
	o.tolerated = append(o.tolerated, errnos...)
	return o
}

// Then goes on at l after success.
func (o *Op) Then(l Label) *Op { o.then = l; return o }

// Else goes on at l after a tolerated failure.
func (o *Op) Else(l Label) *Op { o.other = l; return o }

// Note reports a tolerated failure to the parent, see [Child.Notes].
func (o *Op) Note() *Op { o.note = true; return o }

// Goto goes on at l.
func (p *Program) Goto(l Label) { p.Do("", opGoto).Then(l) }

// Fail ends the program with errno.
func (p *Program) Fail(what string, errno syscall.Errno) { p.Do(what, opFail).errno = errno }

// Check fails with errno unless the bits mask of *word, which an earlier call filled, are want.
func (p *Program) Check(what string, word *uint32, mask, want uint32, errno syscall.Errno) *Op {
	op := p.Do(what, opCheck)
	op.word, op.mask, op.want, op.errno = word, mask, want, errno
	return op
}

// Need fails with errno unless an earlier op has put something into r.
func (p *Program) Need(what string, r Reg, errno syscall.Errno) *Op {
	op := p.Do(what, opNeed, 0, r)
	op.errno = errno
	return op
}

// Sync makes the child wait for the parent to finish the next of the steps given to Start. The
// first of them is taken at once, each further one not before the child is here.
func (p *Program) Sync(what string) {
	p.init()
	p.syncs++
	if p.syncs > 1 {
		p.Do(what, syscall.SYS_WRITE, regReport, Pointer(&[2]uint32{ready, 0}), 8)
	}
	p.Do(what, syscall.SYS_READ, regSync, Pointer(p.syncByte), 1)
	p.Check(what, p.syncByte, 0xff, uint32(p.syncs&0x7f), syscall.ECANCELED)
}

// Inherit keeps descriptor fd open in the child; all others but those that are arguments are
// closed before the first op.
func (p *Program) Inherit(fd int) { p.inherit = append(p.inherit, fd) }

// Keep keeps values alive as long as the program, for memory that only other memory points to.
func (p *Program) Keep(values ...any) { p.keep = append(p.keep, values...) }

// Own gives the program a file that an argument names by its descriptor. Close closes it.
func (p *Program) Own(f *os.File) { p.own = append(p.own, f) }

// pointer is an argument that points to a structure.
type pointer struct {
	addr uintptr
	val  any
}

// Pointer makes v an argument. It must not be on a stack, which it is not if it comes from new or
// from a composite literal with & that reaches this function.
func Pointer[T any](v *T) any {
	return pointer{uintptr(unsafe.Pointer(v)), v}
}

// compile turns the ops into instructions. It panics on an argument of a wrong type or a label
// without a place, which are mistakes in the code that made the program.
func (p *Program) compile() {
	p.init()
	p.code = make([]instruction, len(p.ops))
	for i, op := range p.ops {
		in := instruction{
			nr: op.nr, word: op.word, mask: op.mask, want: op.want,
			then: p.target(op.then, i), other: p.target(op.other, i), out: uint16(op.out), note: op.note,
		}

		if len(op.tolerated) > maxTolerated || len(op.args) > len(in.args) {
			panic("linux: too many arguments or errors: " + op.what)
		}
		for k, e := range op.tolerated {
			in.tolerated[k] = uint16(e)
		}
		for k, arg := range op.args {
			in.args[k] = p.value(arg)
			if _, ok := arg.(Reg); ok {
				in.regs |= 1 << k
			}
		}

		if op.nr == opCheck || op.nr == opFail || op.nr == opNeed {
			in.args[0] = uintptr(op.errno)
		}
		p.code[i] = in
	}
}

func (p *Program) target(l Label, from int) int {
	if l == 0 {
		return from + 1
	}
	if p.labels[l] < 0 {
		panic("linux: label without a place after " + p.ops[from].what)
	}
	return p.labels[l]
}

// value returns what the kernel gets for arg and keeps alive what it points to.
func (p *Program) value(arg any) uintptr {
	switch v := arg.(type) {
	case int:
		return uintptr(v)
	case uintptr:
		return v
	case Reg:
		return uintptr(v)
	case *os.File:
		p.Keep(v)
		p.Inherit(int(v.Fd()))
		return v.Fd()
	case string:
		return p.bytes(append([]byte(v), 0))
	case []byte:
		if len(v) == 0 {
			return 0
		}
		return p.bytes(v)
	case []string:
		vector := make([]uintptr, len(v)+1)
		for i, s := range v {
			vector[i] = p.bytes(append([]byte(s), 0))
		}
		p.Keep(vector)
		return uintptr(unsafe.Pointer(&vector[0]))
	case pointer:
		p.Keep(v.val)
		return v.addr
	}

	panic(fmt.Sprintf("linux: argument of type %T", arg))
}

func (p *Program) bytes(b []byte) uintptr {
	p.Keep(b)
	return uintptr(unsafe.Pointer(&b[0]))
}

// Close closes the descriptors that a program opened in this process with Run, and the files that it owns.
func (p *Program) Close() {
	for _, f := range p.own {
		_ = f.Close() // opened for its place only
	}
	p.own = nil
	for _, op := range p.ops {
		switch op.nr {
		case unix.SYS_OPENAT, unix.SYS_OPENAT2, unix.SYS_FSOPEN, unix.SYS_FSMOUNT, unix.SYS_OPEN_TREE, unix.SYS_SOCKET:
			if fd := p.regs[op.out]; op.out != noReg && fd != 0 {
				unix.Close(int(fd))
				p.regs[op.out] = 0
			}
		}
	}
}

// failure makes the error of the op at index.
func (p *Program) failure(index int, errno syscall.Errno) *Failure {
	if index < 0 || index >= len(p.ops) {
		return &Failure{What: "preparing a process", Errno: errno}
	}
	return &Failure{What: p.ops[index].what, Errno: errno}
}

// A Failure is an op of a Program that failed.
type Failure struct {
	What  string // what the op was for, as given to Do
	Errno syscall.Errno
	Notes []Failure // the tolerated failures before it, of ops with Note
}

func (f *Failure) Error() string { return f.What + ": " + f.Errno.Error() }

// Unwrap returns the error number.
func (f *Failure) Unwrap() error { return f.Errno }

// String lists the program, one op a line, for a debug log. Of a row of like ops it shows the
// first and how many there are.
func (p *Program) String() string {
	var b strings.Builder
	marked := func(i int) bool { return slices.Contains(p.labels, i) }
	for i := 0; i < len(p.ops); i++ {
		for l, at := range p.labels {
			if at == i {
				fmt.Fprintf(&b, "L%d:\n", l)
			}
		}
		op, first := p.ops[i], i
		for i+1 < len(p.ops) && p.ops[i+1].like(op) && !marked(i+1) {
			i++
		}
		fmt.Fprintf(&b, "%4d  %s", first, op)
		if i > first {
			fmt.Fprintf(&b, " (and %d more)", i-first)
		}
		b.WriteByte('\n')
	}

	return b.String()
}

// like reports whether o is one of a row that differ in a number only.
func (o *Op) like(other *Op) bool {
	return o.nr == other.nr && o.what == other.what && len(o.args) == len(other.args) && len(o.args) > 1 &&
		(o.nr == syscall.SYS_RT_SIGACTION || o.nr == syscall.SYS_PRCTL)
}

func (o *Op) String() string {
	var b strings.Builder
	if o.out != noReg {
		fmt.Fprintf(&b, "r%d = ", o.out)
	}
	switch o.nr {
	case opGoto:
		return fmt.Sprintf("goto L%d", o.then)
	case opFail:
		fmt.Fprintf(&b, "fail %v", o.errno)
	case opCheck:
		fmt.Fprintf(&b, "check *word&%#x == %#x", o.mask, o.want)
	case opNeed:
		fmt.Fprintf(&b, "need r%d", o.args[1])
	default:
		texts := make([]string, len(o.args))
		for i, arg := range o.args {
			texts[i] = argText(arg)
		}
		fmt.Fprintf(&b, "%s(%s)", callName(o.nr), strings.Join(texts, ", "))
	}

	if len(o.tolerated) > 0 {
		fmt.Fprintf(&b, " unless %v", o.tolerated)
	}
	if o.other != 0 {
		fmt.Fprintf(&b, " else L%d", o.other)
	}
	if o.then != 0 {
		fmt.Fprintf(&b, " then L%d", o.then)
	}
	if o.what != "" {
		fmt.Fprintf(&b, "  # %s", o.what)
	}

	return b.String()
}

func argText(arg any) string {
	switch v := arg.(type) {
	case Reg:
		return fmt.Sprintf("r%d", v)
	case int:
		if v > 9 || v < -100 {
			return fmt.Sprintf("%#x", v)
		}
		return fmt.Sprint(v)
	case string:
		return fmt.Sprintf("%.200q", v)
	case []string:
		return fmt.Sprintf("%.2000q", v)
	case []byte:
		return fmt.Sprintf("<%d bytes>", len(v))
	case *os.File:
		return fmt.Sprintf("%d<%s>", v.Fd(), v.Name())
	case pointer:
		if text := fmt.Sprintf("%+v", v.val); len(text) < 200 {
			return text
		}
		return fmt.Sprintf("<%T>", v.val)
	}

	return fmt.Sprint(arg)
}

// kept returns the descriptors that stay open in the child, sorted, each once.
func (p *Program) kept(more ...int) []int {
	fds := append(slices.Clone(p.inherit), more...)
	slices.Sort(fds)
	return slices.Compact(fds)
}
