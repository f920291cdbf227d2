package progress

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// openPTY returns both ends of a pseudo terminal, pty(7).
func openPTY(t *testing.T, width, height uint16) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo terminal here: ", err)
	}
	t.Cleanup(func() { _ = master.Close() })
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number int
	var errs []error
	err = raw.Control(func(fd uintptr) {
		n, err := unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		number = n
		errs = append(errs, err, unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0),
			unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width}))
	})

	if err := errors.Join(append(errs, err)...); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("the other end of the pseudo terminal cannot be opened: ", err)
	}
	t.Cleanup(func() { _ = slave.Close() }) // often closed before

	return master, slave
}

// collect reads the master until the last slave is closed, which a read tells with EIO.
func collect(master *os.File) <-chan string {
	all := make(chan string, 1)
	go func() {
		var b strings.Builder
		_, _ = io.Copy(&b, master)
		all <- b.String()
	}()
	return all
}

func TestTerminal(t *testing.T) {
	master, slave := openPTY(t, 50, 20)
	all := collect(master)
	if !IsTerminal(slave) {
		t.Error("the pseudo terminal is none")
	}
	l := Terminal(slave, TerminalOptions{})
	l.Event(Event{Kind: StepStarted, Step: build})
	w := StepWriter(l, build)
	must(t, w, []byte("\x1b[31mcompiling\n"))
	time.Sleep(3 * interval)
	l.Event(Event{Kind: StepDone, Step: build, Elapsed: 2 * time.Second})
	l.Event(Event{Kind: StepStarted, Step: test})
	for range 2 {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}

	l.Event(Event{Kind: Warning, Text: "late"})
	if err := slave.Close(); err != nil {
		t.Error(err)
	}
	text := <-all
	if !strings.Contains(text, "\x1b[2m  compiling\x1b[0m") {
		t.Errorf("the live view does not show the output: %q", text)
	}
	s := newScreen(t, 50, 20)
	s.write(text)
	want := "[build 4/7] RUN make  2.0s\n[test 1/2] STOPPED RUN make test  0.0s\nWarning: late\n"
	if got := s.text(); got != want {
		t.Errorf("the screen shows %q, want %q", got, want)
	}
}

func TestTerminalSize(t *testing.T) {
	_, slave := openPTY(t, 0, 50)
	l := Terminal(slave, TerminalOptions{})
	t.Cleanup(func() { _ = l.Close() })
	if w, h := l.size(); w != 80 || h != 24 {
		t.Errorf("a terminal that does not know its size has %d by %d", w, h)
	}
}

// TestTerminalConcurrent has steps at a time write more than is kept: every step ends on its line.
func TestTerminalConcurrent(t *testing.T) {
	master, slave := openPTY(t, 80, 10)
	all := collect(master)
	l := Terminal(slave, TerminalOptions{NoColor: true})
	var wg sync.WaitGroup
	for n := range 12 {
		wg.Go(func() {
			s := &Step{Stage: fmt.Sprint("s", n), Number: 1, Total: 1, Text: "RUN x"}
			l.Event(Event{Kind: StepStarted, Step: s})
			w := StepWriter(l, s)
			for range 2000 {
				must(t, w, fmt.Appendf(nil, "%0*d\n", 40+n*10, n))
			}
			time.Sleep(interval)
			_ = w.Close()
			l.Event(Event{Kind: StepDone, Step: s, Elapsed: time.Second})
		})
	}

	wg.Wait()
	_ = l.Close()
	if err := slave.Close(); err != nil {
		t.Error(err)
	}
	s := newScreen(t, 80, 10)
	s.write(<-all)
	lines := strings.Split(strings.TrimSpace(s.text()), "\n")
	slices.Sort(lines)
	var want []string
	for n := range 12 {
		want = append(want, fmt.Sprintf("[s%d 1/1] RUN x  1.0s", n))
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
}

// dieVar makes TestHelperDies the program that TestTerminalAfterDeath kills.
const dieVar = "RBUILD_PROGRESS_TEST_DIE"

// TestTerminalAfterDeath ends a program that shows a running step, in ways that run no deferred call: the cursor must be
// visible and below everything.
func TestTerminalAfterDeath(t *testing.T) {
	for _, how := range []string{"panic", "interrupt", "kill"} {
		t.Run(how, func(t *testing.T) {
			master, slave := openPTY(t, 60, 20)
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestHelperDies$")
			cmd.Env = append(os.Environ(), dieVar+"="+how)
			cmd.Stdout = slave
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if err := slave.Close(); err != nil {
				t.Error(err)
			}
			all := collect(master)
			if err := cmd.Wait(); err == nil {
				t.Fatal("the program ended well")
			}
			s := newScreen(t, 60, 20)
			s.write(<-all)
			if !strings.HasPrefix(s.text(), "[build 4/7] RUN make  ") {
				t.Errorf("the screen shows %q", s.text())
			}
		})
	}
}

func TestHelperDies(t *testing.T) {
	how := os.Getenv(dieVar)
	if how == "" {
		t.Skip("this is the program of TestTerminalAfterDeath")
	}
	l := Terminal(os.Stdout, TerminalOptions{})
	l.Event(Event{Kind: StepStarted, Step: build})
	time.Sleep(3 * interval)
	go func() {
		if how == "panic" {
			panic("of a goroutine")
		}
		sig := map[string]syscall.Signal{"interrupt": syscall.SIGINT, "kill": syscall.SIGKILL}[how]
		if err := syscall.Kill(os.Getpid(), sig); err != nil {
			panic(err)
		}
	}()

	time.Sleep(time.Minute)
}
