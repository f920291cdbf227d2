package program_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/program"
)

// TestStringOfEachOp: the debug log shows jumps, checks, kinds of arguments, and rows of similar ops once.
func TestStringOfEachOp(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	var p program.Program
	r, end := p.Reg(), p.Label()
	for sig := range 3 {
		p.Do("resetting signals", unix.SYS_RT_SIGACTION, sig+1, 0, 0, 8)
	}
	p.Check("checking the mount", new(uint32), 0xff, 1, unix.EINVAL).Tolerate(unix.EINVAL)
	p.Need("finding a place", r, unix.ENOENT)
	p.Goto(end)
	p.Do("calling", unix.SYS_GETPPID, f, uintptr(7), 1000, program.Pointer(&struct{ A int }{5}), program.Pointer(&[300]byte{}))
	p.Mark(end)
	p.Do("reading", unix.SYS_READ, r, []byte{}, 0)

	want := `   0  rt_sigaction(1, 0, 0, 8)  # resetting signals (and 2 more)
   3  check *word&0xff == 0x1 unless [invalid argument]  # checking the mount
   4  need r3  # finding a place
   5  goto L1
   6  syscall ` + fmt.Sprintf("%d(%d</dev/null>, 7, 0x3e8, &{A:5}, <*[300]uint8>)", unix.SYS_GETPPID, f.Fd()) + `  # calling
L1:
   7  read(r3, <0 bytes>, 0)  # reading
`
	if diff := cmp.Diff(want, p.String()); diff != "" {
		t.Error(diff)
	}
}

// TestFallback: a tolerated failure continues at the label of Else, and Need tells whether a register was filled.
func TestFallback(t *testing.T) {
	for _, tc := range []struct {
		name, path string
		want       string // error
	}{
		{"there", os.DevNull, ""},
		{"missing", "/none", "finding a file: no such device"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var p program.Program
			defer p.Close()
			fd, missing, end := p.Reg(), p.Label(), p.Label()
			p.Do("opening", unix.SYS_OPENAT, unix.AT_FDCWD, tc.path, unix.O_CLOEXEC, 0).Into(fd).Tolerate(unix.ENOENT).Else(missing)
			p.Goto(end)
			p.Mark(missing)
			p.Need("finding a file", fd, unix.ENODEV)
			p.Mark(end)
			p.Do("asking", unix.SYS_GETPID)

			err := p.Run()
			if (err == nil) != (tc.want == "") || err != nil && err.Error() != tc.want {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if found := p.Value(fd) != 0; found != (tc.want == "") {
				t.Errorf("the register holds %d", p.Value(fd))
			}
		})
	}
}

// TestOwn: Close closes the files that the program owns and the descriptors that it has opened.
func TestOwn(t *testing.T) {
	f, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}

	var p program.Program
	fd := p.Reg()
	p.Own(f)
	p.Do("opening", unix.SYS_OPENAT, int(f.Fd()), ".", unix.O_PATH|unix.O_CLOEXEC, 0).Into(fd)
	if err := p.Run(); err != nil {
		t.Fatal(err)
	}
	opened := int(p.Value(fd))
	p.Close()

	if _, err := f.Stat(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the file given to Own: %v", err)
	}
	if _, err := unix.FcntlInt(uintptr(opened), unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("the descriptor that Run has opened: %v", err)
	}
}

// TestMistakes: programs that cannot be executed panic before anything runs.
func TestMistakes(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		make       func(p *program.Program)
	}{
		{"argument", "argument of type float64", func(p *program.Program) { p.Do("x", unix.SYS_GETPID, 1.5) }},
		{"label", "label without a place after x", func(p *program.Program) { p.Do("x", unix.SYS_GETPID).Then(p.Label()) }},
		{"seven arguments", "too many arguments or errors: x", func(p *program.Program) { p.Do("x", unix.SYS_GETPID, 1, 2, 3, 4, 5, 6, 7) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			defer func() {
				if r := recover(); r == nil || !strings.Contains(fmt.Sprint(r), tc.want) {
					t.Errorf("got %v, want %q", r, tc.want)
				}
			}()
			var p program.Program
			tc.make(&p)
			t.Error(p.Run())
		})
	}
}

// A program with a register: the descriptor of one call is an argument of the next.
func ExampleProgram() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	var p program.Program
	defer p.Close()
	fd := p.Reg()
	p.Do("opening the directory", unix.SYS_OPENAT, unix.AT_FDCWD, dir, unix.O_PATH|unix.O_CLOEXEC, 0).Into(fd)
	p.Do("making a directory", unix.SYS_MKDIRAT, fd, "new", 0o700)
	p.Do("making it again", unix.SYS_MKDIRAT, fd, "new", 0o700)
	fmt.Println(p.Run())

	_, err = os.Stat(filepath.Join(dir, "new"))
	fmt.Println(err)
	// Output:
	// making it again: file exists
	// <nil>
}

// A child waits until the parent has finished a step.
func ExampleProgram_Start() {
	p := new(program.Program)
	p.Sync("waiting for the parent")
	p.Do("unblocking signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, make([]byte, 8), 0, 8)
	p.Do("executing sh", unix.SYS_EXECVE, "/bin/sh", []string{"sh", "-c", "exit 3"}, []string{})

	child, err := p.Start(0, func(c *program.Child) error {
		fmt.Println("the child waits:", c.Pid > 0)
		return nil
	})
	if err != nil {
		panic(err)
	}

	state, err := child.Wait()
	fmt.Println(state.ExitCode, err)
	// Output:
	// the child waits: true
	// 3 <nil>
}
