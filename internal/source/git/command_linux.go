package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"codeberg.org/rbuild/rbuild/internal/bounded"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/program"
	"codeberg.org/rbuild/rbuild/internal/lookpath"
)

// limits bound a Fetch. The zero value permits nothing: start from defaultLimits.
type limits struct {
	time    time.Duration // of the whole Fetch
	silence time.Duration // without output of git, which reports its progress every second
	objects int64         // bytes of the objects that are fetched
	bytes   int64         // of all files of a checkout
	entries int           // files and directories of a commit
}

func defaultLimits() limits {
	return limits{time: 2 * time.Hour, silence: 2 * time.Minute, objects: 8 << 30, bytes: 16 << 30, entries: 2 << 20}
}

const (
	maxOutput  = 16 << 20 // bytes of git's output that are kept
	maxMessage = 4 << 10  // bytes at the end of git's messages that are kept

	pollEvery = time.Second      // between two measurements of the fetched objects
	waitDelay = 10 * time.Second // for helpers of git to end after git
	umask     = 0o022            // files have mode 0644 or 0755
	stdPath   = "/usr/local/bin:/usr/bin:/bin"
)

// command runs git for one Fetch, one process at a time. Its environment gets the repository once
// that exists.
type command struct {
	program string   // path of git
	home    string   // an empty directory, in which git starts
	work    string   // the repository, its files around its .git; may not exist yet
	env     []string // NAME=VALUE
	options []string // before the name of git's command
	limits  limits
}

// configuration returns git's whole configuration, without credentials, as options -c NAME=VALUE.
// authorized says that git has credentials for an HTTP server.
func configuration(authorized bool) []string {
	list := []string{
		"core.hooksPath=/dev/null",
		"core.fsmonitor=false",
		"core.attributesFile=/dev/null",
		"core.excludesFile=/dev/null",
		"core.askPass=",
		"core.logAllRefUpdates=false",
		"core.protectHFS=true",
		"credential.helper=",
		"init.defaultBranch=main",
		"gc.auto=0",
		"maintenance.auto=false",
		"fetch.recurseSubmodules=false",
		"submodule.recurse=false",
		"transfer.bundleURI=false",
		"transfer.fsckObjects=true",
		"fetch.fsckObjects=true",
		// Faults that old programs have left in many repositories, and that do no harm.
		"fetch.fsck.badTimezone=ignore",
		"fetch.fsck.missingSpaceBeforeDate=ignore",
		"fetch.fsck.zeroPaddedFilemode=ignore",
	}

	if authorized {
		list = append(list, "http.followRedirects=false") // git would send the header to the new host too
	}
	args := make([]string, 0, 2*len(list))
	for _, s := range list {
		args = append(args, "-c", s)
	}
	return args
}

// environment returns git's environment, without credentials. Of the variables in inherited,
// NAME=VALUE, only PATH and the proxies are passed on. No repository is searched above dir.
func environment(inherited []string, dir, home string) []string {
	env := []string{
		"PATH=" + lookpath.Clean(searchPath(inherited)),
		"HOME=" + home,
		"LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_ATTR_NOSYSTEM=1",
		"GIT_CEILING_DIRECTORIES=" + dir,
		"GIT_TERMINAL_PROMPT=0",
		"GIT_ALLOW_PROTOCOL=http:https:ssh:git",
		"GIT_LITERAL_PATHSPECS=1",
		"GIT_LFS_SKIP_SMUDGE=1",
	}

	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"} {
		for _, name := range []string{name, strings.ToLower(name)} {
			if value := lookup(inherited, name, ""); value != "" {
				env = append(env, name+"="+value)
			}
		}
	}

	return env
}

// lookup returns the value of the last variable of that name that is not empty.
func lookup(env []string, name, otherwise string) string {
	value := otherwise
	for _, kv := range env {
		if k, v, _ := strings.Cut(kv, "="); k == name && v != "" {
			value = v
		}
	}
	return value
}

// searchPath returns the PATH of env, or stdPath if env has none.
func searchPath(env []string) string { return lookup(env, "PATH", stdPath) }

// Find returns the path of the git that would be used with the environment env ("KEY=value").
func Find(env []string) (string, error) { return find("git", env) }

// OldestVersion is the oldest git whose options Fetch knows.
const OldestVersion = "2.31"

// Version starts the git that would be used with the environment env and returns its version, such
// as "2.39.5".
func Version(ctx context.Context, env []string) (string, error) {
	file, err := Find(env)
	if err != nil {
		return "", err
	}

	cmd := exec.CommandContext(ctx, file, "--version")
	cmd.Env = []string{"PATH=" + lookpath.Clean(searchPath(env)), "LC_ALL=C"}
	cmd.Dir = "/"
	cmd.WaitDelay = waitDelay
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git --version: %w", err)
	}

	fields := strings.Fields(string(out)) // "git version 2.39.5", or "git version 2.39.5 (Apple Git-154)"
	if len(fields) < 3 || fields[0] != "git" || fields[1] != "version" {
		return "", fmt.Errorf("git --version prints %.40q", out)
	}
	return fields[2], nil
}

// Supported reports whether a version, as Version returns it, is OldestVersion or newer.
func Supported(version string) bool {
	var major, minor, oldMajor, oldMinor int
	_, _ = fmt.Sscanf(OldestVersion, "%d.%d", &oldMajor, &oldMinor) // a constant
	if n, _ := fmt.Sscanf(version, "%d.%d", &major, &minor); n != 2 {
		return false
	}
	return major > oldMajor || major == oldMajor && minor >= oldMinor
}

// find finds a program by the PATH of env.
func find(name string, env []string) (string, error) {
	file, err := lookpath.Find(searchPath(env), name)
	if err != nil {
		return "", fmt.Errorf("the program %s is not there: install it "+
			"(package git, for ssh URLs also openssh-client)", name)
	}
	return file, nil
}

// run runs git and returns what it prints.
func (c *command) run(ctx context.Context, args ...string) (string, error) {
	var out []byte
	err := c.stream(ctx, func(r io.Reader) (err error) {
		out, err = bounded.ReadAll(r, maxOutput, "the output of git "+args[0])
		return err
	}, args...)
	return string(out), err
}

// stream runs git and passes its output to read. It kills git when read fails, when git prints
// nothing for too long, and when the fetched objects are too large.
func (c *command) stream(ctx context.Context, read func(io.Reader) error, args ...string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	silent := time.AfterFunc(c.limits.silence, func() {
		cancel(fmt.Errorf("git %s: nothing happens for %v", args[0], c.limits.silence))
	})
	defer silent.Stop()

	heard := func() { silent.Reset(c.limits.silence) }
	messages := &tail{heard: heard}
	cmd := exec.CommandContext(ctx, c.program, slices.Concat(c.options, args)...)
	cmd.Dir = c.home
	cmd.Env = c.env
	cmd.Stderr = messages
	cmd.WaitDelay = waitDelay
	program.KillGroup(cmd)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := fdfs.WithUmask(umask, cmd.Start); err != nil {
		return err
	}

	measured := c.measure(ctx, cancel)
	if err := read(&listener{out, heard}); err != nil {
		cancel(err)
	}
	err = cmd.Wait()
	cause := context.Cause(ctx)
	cancel(nil)
	<-measured
	switch {
	case cause != nil:
		return cause
	case err != nil:
		return explain(args[0], err, messages.String())
	}

	return nil
}

// measure calls cancel when the objects get too large. The channel is closed when measure has
// ended.
func (c *command) measure(ctx context.Context, cancel context.CancelCauseFunc) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)

		tick := time.NewTicker(pollEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if size := c.objects(); size > c.limits.objects {
					cancel(c.tooLarge())
				}
			}
		}
	}()

	return done
}

func (c *command) tooLarge() error { return fmt.Errorf("it is larger than %d bytes", c.limits.objects) }

// objects returns the size of the fetched objects, in bytes. A file that vanishes meanwhile does
// not count.
func (c *command) objects() (size int64) {
	_ = filepath.WalkDir(filepath.Join(c.work, ".git", "objects"), func(_ string, d fs.DirEntry, _ error) error {
		if d == nil || d.IsDir() { // nil: there is no directory yet
			return nil
		}
		if info, _ := d.Info(); info != nil { // nil after an error
			size += info.Size()
		}
		return nil
	})
	return size
}

// listener calls heard whenever something was read.
type listener struct {
	r     io.Reader
	heard func()
}

func (l *listener) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if n > 0 {
		l.heard()
	}
	return n, err
}

// tail keeps the last maxMessage bytes that were written.
type tail struct {
	text  []byte
	heard func()
}

func (t *tail) Write(p []byte) (int, error) {
	t.heard()
	t.text = append(t.text, p...)
	if more := len(t.text) - maxMessage; more > 0 {
		t.text = append(t.text[:0], t.text[more:]...)
	}
	return len(p), nil
}

// String returns the text with control characters replaced by "?": the server wrote a part of the
// text, and must not steer the terminal.
func (t *tail) String() string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' {
			return '\n'
		}
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(string(t.text), "?"))
}

// hints say what to do about messages of git and ssh.
var hints = []struct{ message, hint string }{
	{"could not read Username", "does it exist? If it needs credentials give --secret id=GIT_AUTH_TOKEN"},
	{
		"Authentication failed",
		"the server does not accept the credentials of --secret id=GIT_AUTH_TOKEN or GIT_AUTH_HEADER",
	},
	{
		"returned error: 30",
		"the server redirects, which is not followed with credentials: use the URL that it redirects to",
	},
	{"Host key verification failed", "compare the host's key and add it to ~/.ssh/known_hosts (ssh-keyscan HOST)"},
	{"Permission denied (", "give a key or an agent that the server knows: --ssh default, --ssh default=KEY"},
}

// explain makes an error from git's messages.
func explain(command string, err error, messages string) error {
	var said []string
	for line := range strings.SplitSeq(messages, "\n") {
		line = strings.TrimSpace(line)
		remote := strings.HasPrefix(line, "remote: ") && !strings.Contains(line, " objects: ") &&
			!strings.HasPrefix(line, "remote: Total ")
		if remote || strings.HasPrefix(line, "fatal:") || strings.HasPrefix(line, "error:") ||
			strings.HasPrefix(line, "Host key") || strings.Contains(line, "Permission denied") {
			said = append(said, line)
		}
	}

	if len(said) > maxLines {
		said = said[len(said)-maxLines:]
	}
	for _, h := range hints {
		if strings.Contains(messages, h.message) {
			said = append(said, h.hint)
			break
		}
	}

	if len(said) == 0 {
		return fmt.Errorf("git %s: %w", command, err)
	}

	return &gitError{fmt.Sprintf("git %s: %s", command, strings.Join(said, "; ")), messages}
}

// maxLines bounds the lines of git that an error repeats.
const maxLines = 4

// gitError is an error with git's messages.
type gitError struct{ text, messages string }

func (e *gitError) Error() string { return e.text }

// said reports whether err is an error of git whose messages contain one of these words.
func said(err error, words ...string) bool {
	e, ok := errors.AsType[*gitError](err)
	if !ok {
		return false
	}
	for _, w := range words {
		if strings.Contains(e.messages, w) {
			return true
		}
	}
	return false
}
