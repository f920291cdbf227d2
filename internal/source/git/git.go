// Package git fetches the files of one commit of a git repository into a directory, with the host's
// git program.
//
//	ref, ok, err := git.Parse("https://example.org/x.git#v1:docs")
//	if ok && err == nil {
//		checkout, err := git.Fetch(ctx, ref, dir, git.Options{Environment: os.Environ()})
//		// checkout.Dir, checkout.Commit
//	}
//
// # What git may do
//
// The repository, its server and the text of the reference may be hostile. git is started with an
// environment made from nothing: no configuration of the system, of the user or of a directory
// above, no hooks, no templates, no filters, no credential helpers, no prompts, no file system
// monitor, and only the protocols http, https, ssh and git. Operands come after "--" and never
// begin with "-". The objects that the server sends are checked (transfer.fsckObjects) and counted
// before files are written. Submodules are not fetched. The subdirectory is looked up in git's
// trees, which have neither ".." nor links that git follows. git runs in a process group of its
// own, which is killed when the context ends, and inherits no descriptors.
//
// Credentials for http and https reach git in its environment, which only the user who builds can
// read (proc_pid_environ(5)), never on the command line. With credentials no redirect is followed.
// ssh reads no configuration, uses the keys of the agent only, and connects only to hosts whose
// keys are known.
//
// # Limits
//
// 8 GiB of objects, 16 GiB and 2 Mi entries of files, 2 minutes without progress, 2 hours
// altogether.
//
// Sources: git-fetch(1), git-config(1). The form of references, the precedence of branches and
// tags, and the names of secrets are those of BuildKit (August 2026). The package needs git 2.31 or
// newer.
package git

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Options say how a repository is reached and which of its files are wanted. Without PATH in
// Environment, git is searched in /usr/local/bin, /usr/bin and /bin.
type Options struct {
	KeepGitDir  bool // keep the directory .git; has no effect with Subdir
	CommitTimes bool // files have the time of the commit, not of the checkout

	Environment []string          // NAME=VALUE; only PATH and the proxy variables are used
	Secrets     map[string][]byte // GIT_AUTH_TOKEN, GIT_AUTH_HEADER, or those names with "." and the host
	Agent       Agent             // for ssh; nil: none
	KnownHosts  []string          // files with the keys of ssh hosts, absolute paths

	limits limits // of tests; zero: the default
}

// Agent answers as an SSH agent on a socket; see package sshagent.
type Agent interface {
	Serve(ctx context.Context, l net.Listener) (stop func() error)
}

// Checkout is the result of Fetch.
type Checkout struct {
	Dir        string    // the files of Subdir, or all files
	Commit     string    // full hash
	Time       time.Time // of the commit, by its committer
	Submodules bool      // the commit has submodules, which are empty directories
}

// Fetch fetches the commit that ref names into a directory below dir. dir is an empty directory
// that the caller removes. Files have mode 0644 or 0755 and belong to the user of this process.
// After an error dir may hold some of the files.
func Fetch(ctx context.Context, ref Ref, dir string, o Options) (c Checkout, err error) {
	if err := ref.check(); err != nil {
		return c, fmt.Errorf("git repository %s: %w", ref, err)
	}

	if o.limits == (limits{}) {
		o.limits = defaultLimits()
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.limits.time, fmt.Errorf("not done after %v", o.limits.time))
	defer cancel()

	c, err = fetch(ctx, ref, dir, o)
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			err = context.Cause(ctx) // names the limit
		}
		return Checkout{}, fmt.Errorf("git repository %s: %w", ref, err)
	}

	return c, nil
}

// fetch is Fetch with a reference that was checked, and within the time that ctx has.
func fetch(ctx context.Context, ref Ref, dir string, o Options) (Checkout, error) {
	f, err := newFetcher(ctx, ref, dir, o)
	if err != nil {
		return Checkout{}, err
	}
	c, err := f.fetch(ctx)
	return c, errors.Join(err, f.close())
}

// fetcher is the state of one Fetch.
type fetcher struct {
	ref    Ref
	limits limits
	root   *os.Root // the directory of the Fetch
	server *access
	git    *command
	tree   *worktree
}

// newFetcher prepares dir and the access to the server. The caller closes the fetcher.
func newFetcher(ctx context.Context, ref Ref, dir string, o Options) (*fetcher, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	dir, err = filepath.EvalSymlinks(dir) // git compares paths
	if err != nil {
		return nil, err
	}

	program, err := find("git", o.Environment)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"home", "work"} {
		if err := root.Mkdir(name, 0o755); err != nil {
			return nil, errors.Join(err, root.Close())
		}
	}

	home := filepath.Join(dir, "home")
	f := &fetcher{ref: ref, limits: o.limits, root: root}
	f.server = &access{Options: o, ref: ref, root: root, home: home}
	env, err := f.server.connect(ctx)
	if err != nil {
		return nil, errors.Join(err, f.close())
	}

	f.git = &command{
		program: program,
		home:    home,
		work:    filepath.Join(dir, "work"),
		env:     append(environment(o.Environment, dir, home), env...),
		options: configuration(f.server.authorized()),
		limits:  o.limits,
	}
	f.tree = &worktree{Options: o, ref: ref, git: f.git, dir: dir, root: root}

	return f, nil
}

// close ends the access to the server, and removes everything but the files.
func (f *fetcher) close() error {
	return errors.Join(f.server.close(), f.root.RemoveAll("home"), f.root.Close())
}
