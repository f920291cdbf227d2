package sandbox_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

// roleVar makes the test binary something else: a program in a sandbox, or a builder to be killed.
const roleVar = "SANDBOX_TEST_ROLE"

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVar); role {
	case "":
		nstest.Main(m)
	case "euid":
		fmt.Println(os.Getuid(), os.Geteuid())
	case "rewrite":
		_, err := os.OpenFile("/proc/self/exe", os.O_WRONLY, 0)
		fmt.Println("opening the builder for writing:", err)
	case "reach":
		reach()
	default:
		if err := builder(role); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}

// builder starts a process in the box at dir, tells its pid, and waits to be killed.
func builder(dir string) error {
	b := &box{dir: dir, image: filepath.Join(dir, "image"), upper: filepath.Join(dir, "upper")}
	p, err := sandbox.Start(b.config("sleep 1000 & sleep 1000"))
	if err != nil {
		return err
	}
	fmt.Println(p.Pid())
	select {}
}

// box is a file system to run processes in: an image of busybox and an upper directory.
type box struct {
	tb    testing.TB
	dir   string
	image string
	upper string
}

// scratchDir is on a disk file system: the tests need an upper directory that is not on a tmpfs
// without user.* attributes.
func scratchDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "sandbox-test-") //nolint:usetesting // /tmp may be a tmpfs or an overlay
	check(tb, err)
	tb.Cleanup(func() { check(tb, os.RemoveAll(dir)) })
	return dir
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// newBox makes a box whose image has busybox and the given directories, files ("path=content")
// and links ("path->target").
func newBox(tb testing.TB, entries ...string) *box {
	tb.Helper()
	nstest.Need(tb)
	b := &box{tb: tb, dir: scratchDir(tb)}
	b.image, b.upper = b.path("image"), b.path("upper")
	for _, dir := range []string{"image/bin", "upper", "work"} {
		check(tb, os.MkdirAll(b.path(dir), 0o755))
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		tb.Skip("no static busybox: ", err)
	}
	check(tb, os.WriteFile(filepath.Join(b.image, "bin/busybox"), busybox, 0o755))
	for name := range strings.FieldsSeq("sh cat ls id echo sleep touch mkdir rm stat mount grep kill unshare head readlink pwd true env ps mv chmod find wc dd") {
		check(tb, os.Symlink("busybox", filepath.Join(b.image, "bin", name)))
	}
	for _, entry := range entries {
		b.add(entry)
	}
	return b
}

func (b *box) path(name string) string { return filepath.Join(b.dir, name) }

func (b *box) add(entry string) {
	name, target, isLink := strings.Cut(entry, "->")
	file, content, isFile := strings.Cut(name, "=")
	full := filepath.Join(b.image, file)
	check(b.tb, os.MkdirAll(filepath.Dir(full), 0o755))
	switch {
	case isLink:
		check(b.tb, os.Symlink(target, full))
	case isFile:
		check(b.tb, os.WriteFile(full, []byte(content), 0o755))
	default:
		check(b.tb, os.MkdirAll(full, 0o755))
	}
}

// config is one that runs script with the defaults.
func (b *box) config(script string) sandbox.Config {
	spec := sandbox.DefaultSpec()
	spec.Process.Args = []string{"/bin/sh", "-c", script}
	spec.Process.Env = []string{"PATH=/bin"}
	return sandbox.Config{
		Spec:  spec,
		Root:  overlay.Mount{Lowers: []string{b.image}, Upper: b.upper, Work: b.path("work")},
		Stubs: b.path("stubs"),
	}
}

// run runs c to its end and returns its output, both streams together.
func run(tb testing.TB, c sandbox.Config) (string, sandbox.State) {
	tb.Helper()
	out, state, err := tryRun(tb, c)
	check(tb, err)
	return out, state
}

func tryRun(tb testing.TB, c sandbox.Config) (string, sandbox.State, error) {
	tb.Helper()
	r, w, err := os.Pipe()
	check(tb, err)
	defer r.Close()

	c.Stdout, c.Stderr = w, w
	p, err := sandbox.Start(c)
	w.Close()
	if err != nil {
		return "", sandbox.State{}, err
	}

	var out bytes.Buffer
	_, err = io.Copy(&out, r)
	check(tb, err)
	state, err := p.Wait()
	return out.String(), state, err
}

func TestRunsAProcess(t *testing.T) {
	b := newBox(t)
	c := b.config("echo hello; id -u; exit 3")
	c.Debug = func(text string) { t.Log("\n" + text) }
	out, state := run(t, c)
	if out != "hello\n0\n" || state.ExitCode != 3 {
		t.Errorf("got %q and exit code %d", out, state.ExitCode)
	}
}

func mkdirs(dirs ...string) error {
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}
