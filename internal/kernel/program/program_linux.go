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

// A Program is a list of system calls, with the jumps that fallbacks need. All memory of the list
// is allocated when an op is added, and kept alive by the Program. So the execution needs no
// memory, no lock and no other thread, as a process must that was forked from a Go program; see
// [Program.Start].
//
// A register can keep the result of a call as an argument of later calls. A call that fails ends
// the program, unless the op tolerates the failure. A Program is executed once, and is not safe for
// concurrent use. The zero value is an empty program.
type Program struct {
	ops    []*Op
	regs   []uintptr
	labels []int         // index of an op; labels[0] is unused
	code   []instruction // the ops as they are executed, see compile

	syncs    int       // number of ops from Sync
	syncByte *uint32   // the byte that the child reads from its parent
	record   [2]uint32 // the report that the child writes

	inherit []int      // descriptors that stay open in the child
	keep    []any      // values that only other memory points to
	own     []*os.File // closed by Close
	cgroup  Cgroup     // nil: that of this process
}

// A Cgroup is the cgroup in which a child of [Program.Start] begins.
type Cgroup interface {
	// Dir is the directory of a cgroup of version 2, in which the child can be born; nil on version
	// 1.
	Dir() *os.File
	// Enter moves the calling thread into the cgroup, so that a child of the thread is born there.
	// leave moves the thread out again. Enter fails on version 2, where a thread cannot be moved
	// alone.
	Enter() (leave func() error, err error)
	// Add moves a process into the cgroup. The kernel waits for a grace period first, some
	// milliseconds.
	Add(pid int) error
}

// InCgroup makes the child begin in c, before the first step given to Start is taken. The child is
// born in c if the kernel can do that, and otherwise moved into c while the child waits. The
// program must have a Sync.
func (p *Program) InCgroup(c Cgroup) { p.cgroup = c }

// A Reg is a register of a Program: an argument whose value becomes known while the program runs.
type Reg int

// A Label is a place in a Program at which execution can continue.
type Label int

// The registers that Start fills.
const (
	noReg     Reg = iota
	regReport     // the writing end of the pipe on which the child reports
	regSync       // the reading end of the pipe on which the child waits for its parent
	firstReg
)

// These numbers, in place of the number of a system call, mean operations of the Program itself.
const (
	opGoto uintptr = ^uintptr(0) - iota
	opFail
	opCheck
	opNeed
)

// maxTolerated bounds the errors that an op can tolerate.
const maxTolerated = 8

// An Op is one step of a Program.
type Op struct {
	what string  // for errors
	nr   uintptr // of the system call, or opGoto to opNeed
	args []any
	out  Reg // for the result; noReg: none

	then      Label // after success; 0: the next op
	other     Label // after a tolerated failure; 0: the next op
	tolerated []syscall.Errno
	note      bool // report a tolerated failure

	check check         // of opCheck
	errno syscall.Errno // of opFail, opCheck and opNeed
}

// check compares a word of memory: *word&mask must be want.
type check struct {
	word       *uint32
	mask, want uint32
}

// instruction is the compiled form of an Op. The only pointer that the garbage collector must know
// is that of a check.
type instruction struct {
	nr    uintptr
	args  [6]uintptr
	regs  uint8  // bit i: args[i] is the number of a register
	out   uint16 // register
	check check

	then      int
	other     int
	tolerated [maxTolerated]uint16
	note      bool
}

// Reg returns a new register.
func (p *Program) Reg() Reg {
	p.init()
	p.regs = append(p.regs, 0)
	return Reg(len(p.regs) - 1)
}

// Label returns a new label. Mark sets the position of the label.
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

// Do adds the system call nr. what names its purpose in errors by a gerund and an object, for
// example "mounting tmpfs at /dev". An argument is an int, a uintptr, a Reg, an *os.File (which the
// child then inherits), a string, a []byte, a []string (a vector that ends with NULL) or a result
// of [Pointer].
func (p *Program) Do(what string, nr uintptr, args ...any) *Op {
	p.init()
	op := &Op{what: what, nr: nr, args: args}
	p.ops = append(p.ops, op)
	return op
}

// Into keeps the result of the call in r.
func (o *Op) Into(r Reg) *Op {
	o.out = r
	return o
}

// Tolerate makes the program continue after these errors, at the next op or at the label of Else.
// At most 8 errors.
func (o *Op) Tolerate(errnos ...syscall.Errno) *Op {
	o.tolerated = append(o.tolerated, errnos...)
	return o
}

// Then makes the program continue at l after success.
func (o *Op) Then(l Label) *Op {
	o.then = l
	return o
}

// Else makes the program continue at l after a tolerated failure.
func (o *Op) Else(l Label) *Op {
	o.other = l
	return o
}

// Note makes the child report a tolerated failure to the parent: see Child.Notes.
func (o *Op) Note() *Op {
	o.note = true
	return o
}

// Goto makes the program continue at l.
func (p *Program) Goto(l Label) { p.Do("", opGoto).Then(l) }

// Fail ends the program with errno.
func (p *Program) Fail(what string, errno syscall.Errno) { p.Do(what, opFail).errno = errno }

// Check ends the program with errno unless *word&mask is want. An earlier call has filled *word.
func (p *Program) Check(what string, word *uint32, mask, want uint32, errno syscall.Errno) *Op {
	op := p.Do(what, opCheck)
	op.check = check{word: word, mask: mask, want: want}
	op.errno = errno
	return op
}

// Need ends the program with errno if r is 0: no earlier op has filled r.
func (p *Program) Need(what string, r Reg, errno syscall.Errno) *Op {
	op := p.Do(what, opNeed, 0, r)
	op.errno = errno
	return op
}

// Sync makes the child wait until the parent has finished the next of the steps given to Start. The
// parent takes the first step at once, and each further step when the child has reached its Sync.
func (p *Program) Sync(what string) {
	p.init()
	p.syncs++
	if p.syncs > 1 {
		p.Do(what, syscall.SYS_WRITE, regReport, Pointer(&[2]uint32{ready, 0}), 8)
	}
	p.Do(what, syscall.SYS_READ, regSync, Pointer(p.syncByte), 1)
	p.Check(what, p.syncByte, 0xff, uint32(p.syncs&0x7f), syscall.ECANCELED)
}

// Inherit keeps the descriptor fd open in the child. Before the first op the child closes all
// descriptors that are neither inherited nor arguments of type *os.File.
func (p *Program) Inherit(fd int) { p.inherit = append(p.inherit, fd) }

// Keep keeps values alive as long as the program. Use Keep for memory to which only a structure of
// the program points.
func (p *Program) Keep(values ...any) { p.keep = append(p.keep, values...) }

// Own makes Close close f, whose descriptor is an argument of the program.
func (p *Program) Own(f *os.File) { p.own = append(p.own, f) }

// pointer is an argument that points to a structure.
type pointer struct {
	addr uintptr
	val  any
}

// Pointer makes the address of *v an argument. *v must not be on a stack. A value from new, or from
// a composite literal with & that is passed to this function, is not.
func Pointer[T any](v *T) any {
	return pointer{uintptr(unsafe.Pointer(v)), v}
}

// compile turns the ops into instructions. It panics on an argument of a wrong type and on a label
// without a place: mistakes in the code that made the program.
func (p *Program) compile() {
	p.init()
	p.code = make([]instruction, len(p.ops))
	for i, op := range p.ops {
		in := instruction{
			nr: op.nr, out: uint16(op.out), check: op.check,
			then: p.target(op.then, i), other: p.target(op.other, i), note: op.note,
		}

		if len(op.tolerated) > maxTolerated || len(op.args) > len(in.args) {
			panic("program: too many arguments or errors: " + op.what)
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

// target returns the index of the op at l; 0 is the op after from.
func (p *Program) target(l Label, from int) int {
	if l == 0 {
		return from + 1
	}
	if p.labels[l] < 0 {
		panic("program: label without a place after " + p.ops[from].what)
	}
	return p.labels[l]
}

// value returns the word that the kernel gets for arg, and keeps the memory alive to which the word
// points.
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

	panic(fmt.Sprintf("program: argument of type %T", arg))
}

func (p *Program) bytes(b []byte) uintptr {
	p.Keep(b)
	return uintptr(unsafe.Pointer(&b[0]))
}

// Close closes the descriptors that Run has opened in this process, and the files given to Own.
func (p *Program) Close() {
	for _, f := range p.own {
		_ = f.Close() // opened with O_PATH: there is nothing to lose
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

// failure returns the error of the op at index.
func (p *Program) failure(index int, errno syscall.Errno) *Failure {
	if index < 0 || index >= len(p.ops) {
		return &Failure{What: "preparing a process", Errno: errno}
	}
	return &Failure{What: p.ops[index].what, Errno: errno}
}

// A Failure is an op of a Program that failed.
type Failure struct {
	What  string // the purpose of the op, as given to Do
	Errno syscall.Errno
	Notes []Failure // the earlier tolerated failures, of ops with Note
}

// Error returns "what: error".
func (f *Failure) Error() string { return f.What + ": " + f.Errno.Error() }

// Unwrap returns the error number.
func (f *Failure) Unwrap() error { return f.Errno }

// String lists the program for a debug log, an op a line. Of a row of similar ops String shows the
// first and the number of ops.
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

// like reports whether o and other belong to a row of ops that differ in a number only, such as the
// resets of all signals.
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
		fmt.Fprintf(&b, "check *word&%#x == %#x", o.check.mask, o.check.want)
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

// argText shows an argument. Long texts are cut, and a []byte, which may hold a secret, is a number
// of bytes.
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
