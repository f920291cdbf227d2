package runner_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
	"codeberg.org/rbuild/rbuild/internal/runner"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// image is the directory of an image with busybox, and the directories that a process needs beside
// it.
type image struct {
	tb  testing.TB
	dir string
}

// newImage makes an image with busybox. entries are files as "path=content".
func newImage(tb testing.TB, entries ...string) *image {
	tb.Helper()
	nstest.Need(tb)
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		tb.Skip("needs a static busybox at /bin/busybox (Debian: apt install busybox-static)")
	}

	// On a disk: a tmpfs may lack the extended attributes that an upper directory needs.
	dir, err := os.MkdirTemp("/var/tmp", "runner-test-") //nolint:usetesting // /tmp may be a tmpfs or an overlay
	check(tb, err)
	tb.Cleanup(func() { check(tb, os.RemoveAll(dir)) })

	i := &image{tb, dir}
	for _, name := range []string{"image/bin", "image/etc", "upper", "work", "scratch", "shared"} {
		check(tb, os.MkdirAll(i.path(name), 0o755))
	}
	check(tb, os.WriteFile(i.path("image/bin/busybox"), busybox, 0o755))
	for name := range strings.FieldsSeq("sh cat ls id echo sleep touch mkdir rm stat kill env grep") {
		check(tb, os.Symlink("busybox", i.path("image/bin/"+name)))
	}
	for _, entry := range entries {
		name, content, _ := strings.Cut(entry, "=")
		i.write("image/"+name, content)
	}

	return i
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func (i *image) path(name string) string { return filepath.Join(i.dir, name) }

func (i *image) write(name, content string) {
	i.tb.Helper()
	check(i.tb, os.MkdirAll(filepath.Dir(i.path(name)), 0o755))
	check(i.tb, os.WriteFile(i.path(name), []byte(content), 0o755))
}

// view opens the files of the image.
func (i *image) view() (*os.File, error) {
	f, err := os.Open(i.path("image"))
	if err == nil {
		i.tb.Cleanup(func() { f.Close() })
	}
	return f, err
}

// process returns a process that runs a script of the shell.
func (i *image) process(script string, output *bytes.Buffer) runner.Process {
	return runner.Process{
		Command: runner.Command{Argv: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/bin"}},
		Root: runner.Root{
			Overlay: overlay.Mount{Lowers: []string{i.path("image")}, Upper: i.path("upper"), Work: i.path("work")},
			Before:  []string{i.path("image")},
			Scratch: i.path("scratch"),
			View:    i.view,
		},
		Output: output,
	}
}

// run runs a script and returns the output.
func (i *image) run(o runner.Options, script string, change func(*runner.Process)) (string, error) {
	i.tb.Helper()
	var output bytes.Buffer
	p := i.process(script, &output)
	if change != nil {
		change(&p)
	}
	_, err := runner.New(o, i.path("shared")).Run(i.tb.Context(), p)
	return output.String(), err
}

// names lists a directory of the test.
func (i *image) names(dir string) (out []string) {
	i.tb.Helper()
	entries, err := os.ReadDir(i.path(dir))
	check(i.tb, err)
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// TestRunOnImage runs a command on the directory of an image, without a build, a store or a
// Dockerfile.
func TestRunOnImage(t *testing.T) {
	i := newImage(t, "etc/passwd=app:x:7:8::/home/app:\n", "data=from the image")
	var output bytes.Buffer
	p := i.process("cat /data; echo; id -u; echo $HOME; cat /etc/hostname; echo new > /made; pwd", &output)
	p.Command.Dir = "/etc"

	result, err := runner.New(runner.Options{}, i.path("shared")).Run(t.Context(), p)
	check(t, err)
	if want := "from the image\n0\n/\nrbuild\n/etc\n"; output.String() != want {
		t.Errorf("output %q, want %q", output.String(), want)
	}
	if result.State.ExitCode != 0 || result.Usage == nil || result.Usage.Memory == 0 || len(result.Warnings) > 0 {
		t.Errorf("result %+v", result)
	}

	// The upper directory has the file of the process, and nothing of the mounts.
	if diff := cmp.Diff([]string{"made"}, i.names("upper")); diff != "" {
		t.Errorf("upper directory (-want +got):\n%s", diff)
	}
	if left := slices.DeleteFunc(i.names("scratch"), func(n string) bool {
		return slices.Contains([]string{"hosts", "hostname", "resolv.conf"}, n)
	}); len(left) > 0 {
		t.Errorf("left in the scratch directory: %q", left)
	}
}

// TestUser runs as the user of the image, with the user's home and groups.
func TestUser(t *testing.T) {
	i := newImage(t, "etc/passwd=app:x:7:8::/home/app:\n", "etc/group=more:x:9:app\ndisk:x:10:\n")
	o := runner.Options{Security: runner.Security{Groups: []string{"disk", "8"}}}
	got, err := i.run(o, "id -u; id -g; id -G; echo $HOME", func(p *runner.Process) { p.Command.User = "app" })
	check(t, err)
	if want := "7\n8\n8 9 10\n/home/app\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	for _, tc := range []struct {
		name, user, group, want string
	}{
		{"user", "nobody", "8", "nobody"},
		{"group", "app", "none", "--group-add none"},
	} {
		t.Run("unknown "+tc.name, func(t *testing.T) {
			o := runner.Options{Security: runner.Security{Groups: []string{tc.group}}}
			_, err := i.run(o, "true", func(p *runner.Process) { p.Command.User = tc.user })
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q in it", err, tc.want)
			}
		})
	}
}

// TestExit: the exit codes are those of a shell, and the error names the reason.
func TestExit(t *testing.T) {
	i := newImage(t, "app=#!/no/interpreter\n", "crlf.sh=#!/bin/sh\r\ntrue\r\n", "plain=text")
	for _, tc := range []struct {
		name string
		argv []string
		code int
		want string
	}{
		{"exit status", []string{"/bin/sh", "-c", "exit 7"}, 7, "exit status 7"},
		{"signal", []string{"/bin/sh", "-c", "sh -c 'kill -9 $$'; exit $?"}, 137, "exit status 137"},
		{"not found", []string{"/missing"}, 127, "not found in the image"},
		{"no interpreter", []string{"/app"}, 127, "its interpreter /no/interpreter is not in the image"},
		{"no interpreter in a shell", []string{"/bin/sh", "-c", "/app"}, 127, "its interpreter /no/interpreter is not in the image"},
		{"line ends", []string{"/bin/sh", "-c", "/crlf.sh"}, 127, "its lines end in CRLF"},
		{"read-only file", []string{"/bin/sh", "-c", "echo x > /etc/hosts"}, 1, "--no-hosts shows the command the image's own file"},
		{"too long", []string{"/bin/sh", "-c", strings.Repeat(" ", 1<<18)}, 126, "the kernel accepts 128KiB for one string"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := i.run(runner.Options{}, "", func(p *runner.Process) { p.Command.Argv = tc.argv })
			var exit *runner.ExitError
			if !errors.As(err, &exit) || exit.Code != tc.code || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want code %d and %q", err, tc.code, tc.want)
			}
		})
	}
}

// TestEnd: the end of the context and silence kill the process. The error is the cause.
func TestEnd(t *testing.T) {
	i := newImage(t)
	tooQuiet := errors.New("too quiet")
	o := runner.Options{Limits: runner.Limits{Silence: runner.Silence{Limit: 300 * time.Millisecond, Err: tooQuiet}}}
	if _, err := i.run(o, "sleep 100 & sleep 100", nil); !errors.Is(err, tooQuiet) {
		t.Errorf("silence: %v", err)
	}

	o.Limits.Silence.Limit = 2 * time.Second // with room for a busy machine
	if _, err := i.run(o, "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 0.2; echo; done", nil); err != nil {
		t.Errorf("a process that prints: %v", err)
	}

	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(300*time.Millisecond, func() { cancel(stopped) })
	var output bytes.Buffer
	result, err := runner.New(runner.Options{}, i.path("shared")).Run(ctx, i.process("echo begun; sleep 100", &output))
	if !errors.Is(err, stopped) || result.State.Signal != syscall.SIGKILL || output.String() != "begun\n" {
		t.Errorf("result %+v, error %v, output %q", result, err, output.String())
	}
}

// caches keeps caches in directories of a test.
type caches struct {
	image  *image
	opened []string
}

func (c *caches) CacheName(identity []string) string { return strings.Join(identity[1:], "_") }

func (c *caches) OpenCache(_ context.Context, spec runner.CacheSpec) (runner.OpenCache, error) {
	name := c.CacheName(spec.Identity)
	c.opened = append(c.opened, name)
	path := c.image.path("cache-" + name)
	isNew := os.Mkdir(path, 0o700) == nil
	dir, err := os.Open(path)
	if err == nil && isNew {
		err = spec.Fill(dir)
	}
	return cache{dir}, err
}

type cache struct{ dir *os.File }

func (c cache) Dir() *os.File { return c.dir }
func (c cache) Close() error  { return c.dir.Close() }

// TestMounts runs a process with a mount of each type.
func TestMounts(t *testing.T) {
	number := func(n uint32) *uint32 { return &n }
	token := "TOKEN"
	for _, tc := range []struct {
		name   string
		mounts []runner.Mount
		script string
		want   string
	}{
		{
			"bind: writes are discarded",
			[]runner.Mount{{Target: "/src", Source: bind("tree", "/")}},
			"cat /src/file; echo changed > /src/file; rm -r /src/dir; ls /src; stat -c %a /src", "content\nfile\n750\n",
		},
		{
			"bind: a file, read-only",
			[]runner.Mount{{Target: "/f", ReadOnly: true, Source: bind("tree", "/file")}},
			"cat /f; echo x 2>/dev/null > /f || echo refused", "content\nrefused\n",
		},
		{
			"bind: fallback",
			[]runner.Mount{{Target: "/src", Source: fallback("missing", "tree")}},
			"cat /src/file", "content\n",
		},
		{
			"cache",
			[]runner.Mount{{Target: "/c", Source: runner.Cache{ID: "a", FileAttributes: runner.FileAttributes{Mode: number(0o711), UID: number(3)}}}},
			"stat -c '%a %u' /c; touch /c/kept", "711 3\n",
		},
		{
			"mount points in mounts",
			[]runner.Mount{
				{Target: "/c", Source: runner.Cache{ID: "b"}},
				{Target: "/c/x/src", Source: bind("tree", "/")},
				{Target: "/c/x/src/new/f", Source: bind("tree", "/file")},
				{Target: "/c/tmp", Source: runner.Tmpfs{}},
			},
			"ls /c /c/x/src/new; cat /c/x/src/new/f", "/c:\ntmp\nx\n\n/c/x/src/new:\nf\ncontent\n",
		},
		{
			"tmpfs",
			[]runner.Mount{{Target: "/t", Source: runner.Tmpfs{Mode: number(0o700)}}},
			"touch /t/x; stat -c %a /t; grep ' /t ' /proc/mounts | grep -c tmpfs", "700\n1\n",
		},
		{
			"secret",
			[]runner.Mount{
				{Target: "/run/s", Source: runner.Secret{ID: "s", Env: &token, FileAttributes: runner.FileAttributes{UID: number(5)}}},
				{Target: "/run/none", Source: runner.Secret{ID: "none"}},
			},
			"cat /run/s; echo; stat -c '%a %u' /run/s; echo $TOKEN; ls /run", "hush\n400 5\nhush\ns\n",
		},
		{
			"a file of /etc is replaced",
			[]runner.Mount{{Target: "/etc/hosts", Source: bind("tree", "/file")}},
			"cat /etc/hosts; echo more >> /etc/hosts; cat /etc/hosts", "content\ncontent\nmore\n",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			i := newImage(t)
			i.write("tree/file", "content\n")
			i.write("tree/dir/deep", "")
			check(t, os.Chmod(i.path("tree"), 0o750))
			store := &caches{image: i}
			got, err := i.run(runner.Options{Secrets: map[string][]byte{"s": []byte("hush")}}, tc.script, func(p *runner.Process) {
				p.Command.Mounts = i.resolve(tc.mounts)
				p.Caches = store
			})
			check(t, err)
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			i.unchanged()
		})
	}
}

// bind is a Bind of a directory of the test; image.resolve makes its path absolute.
func bind(dir, path string) runner.Bind {
	return runner.Bind{Name: path, Tree: runner.Tree{Lowers: []string{dir}, Path: path}}
}

// fallback is a Bind whose first tree cannot be mounted.
func fallback(dir, second string) runner.Bind {
	b := bind(dir, "/")
	b.Fallback = func(context.Context) (runner.Tree, error) {
		return runner.Tree{Lowers: []string{second}, Path: "/"}, nil
	}
	return b
}

func (i *image) resolve(mounts []runner.Mount) []runner.Mount {
	for n, m := range mounts {
		b, ok := m.Source.(runner.Bind)
		if !ok {
			continue
		}
		b.Tree.Lowers = []string{i.path(b.Tree.Lowers[0])}
		if second := b.Fallback; second != nil {
			b.Fallback = func(ctx context.Context) (runner.Tree, error) {
				tree, err := second(ctx)
				tree.Lowers = []string{i.path(tree.Lowers[0])}
				return tree, err
			}
		}
		mounts[n].Source = b
	}
	return mounts
}

// unchanged checks that the process left the source of bind mounts, the upper directory and the
// mounts of the test as they were.
func (i *image) unchanged() {
	i.tb.Helper()
	content, err := os.ReadFile(i.path("tree/file"))
	if string(content) != "content\n" || err != nil {
		i.tb.Errorf("the source has %q, %v", content, err)
	}
	if names := i.names("tree"); len(names) != 2 {
		i.tb.Errorf("the source has %q", names)
	}
	if names := i.names("upper"); len(names) > 0 {
		i.tb.Errorf("the upper directory has %q", names)
	}
	mounted, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounted), i.dir) {
		i.tb.Errorf("mounts are left: %v", err)
	}
}

// TestMountErrors: an error names the mount.
func TestMountErrors(t *testing.T) {
	i := newImage(t, "tree/file=x")
	check(t, syscall.Mkfifo(i.path("image/tree/fifo"), 0o600))
	for _, tc := range []struct {
		name  string
		mount runner.Mount
		want  string
	}{
		{"missing source", runner.Mount{Target: "/x", Source: bind("image/tree", "/none")}, "--mount: target /x: source /none: file does not exist"},
		{"no file", runner.Mount{Target: "/x", Source: bind("image/tree", "/fifo")}, "--mount: target /x: source /fifo is a fifo"},
		{"secret", runner.Mount{Source: runner.Secret{ID: "s", Required: true}}, `--mount: secret s: secret "s" is required`},
		{"agent", runner.Mount{Target: "/x", Source: runner.SSH{ID: "s", Required: true}}, `--mount: target /x: ssh agent "s" is required`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := i.run(runner.Options{}, "true", func(p *runner.Process) { p.Command.Mounts = i.resolve([]runner.Mount{tc.mount}) })
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q in it", err, tc.want)
			}
		})
	}
}

// TestCachesAreOpenedInOrder: the order of names, and each cache once, whatever the order of the
// mounts.
func TestCachesAreOpenedInOrder(t *testing.T) {
	i := newImage(t)
	store := &caches{image: i}
	_, err := i.run(runner.Options{}, "touch /1/x && ls /3/x", func(p *runner.Process) {
		p.Caches = store
		p.Command.Mounts = []runner.Mount{
			{Target: "/1", Source: runner.Cache{ID: "z"}},
			{Target: "/2", Source: runner.Cache{ID: "a"}},
			{Target: "/3", Source: runner.Cache{ID: "z", Sharing: runner.Locked}},
		}
	})
	check(t, err)
	if diff := cmp.Diff([]string{"a___", "z___"}, store.opened); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestVolumes: a volume of the host is shared with the process; with Overlay, or where the image
// declares it, data is discarded.
func TestVolumes(t *testing.T) {
	i := newImage(t, "declared/old=x")
	open := func(name string) *os.File {
		i.write(name+"/old", "")
		f, err := os.Open(i.path(name))
		check(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	o := runner.Options{CompatVolumes: true, Volumes: []runner.Volume{
		{Source: open("shared-dir"), Dest: "/shared"},
		{Source: open("overlay-dir"), Dest: "/over", Overlay: true},
		{Source: open("inner"), Dest: "/declared/deep/inner"},
	}}
	got, err := i.run(o, "for d in /shared /over /declared /empty /declared/deep/inner; do touch $d/new; ls $d; done", func(p *runner.Process) {
		p.Command.Volumes = []string{"/declared", "/empty"}
	})
	check(t, err)
	if want := "new\nold\nnew\nold\ndeep\nnew\nold\nnew\nnew\nold\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	for dir, want := range map[string][]string{
		"shared-dir": {"new", "old"}, "overlay-dir": {"old"}, "inner": {"new", "old"}, "image/declared": {"old"}, "upper": nil,
	} {
		if diff := cmp.Diff(want, i.names(dir)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", dir, diff)
		}
	}
}
