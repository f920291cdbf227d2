package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/ignore"
	"codeberg.org/rbuild/rbuild/internal/runner"
	"codeberg.org/rbuild/rbuild/internal/source"
	"codeberg.org/rbuild/rbuild/internal/source/sshagent"
	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// remote says how contexts are fetched from git repositories and URLs.
type remote struct {
	access  source.Access
	options source.ContextOptions
}

// stepAccess returns how ADD reaches git repositories and URLs: with the secrets and the agent "default" of the spec, and
// the SSH hosts that the user knows.
func (e *Engine) stepAccess(run runner.Options) source.Access {
	a := source.Access{Environment: e.Environ, Secrets: run.Secrets}
	if keys := run.SSH["default"]; keys != nil {
		a.Agent = keys
	}
	if home, _ := e.Env("HOME"); filepath.IsAbs(home) {
		a.KnownHosts = []string{filepath.Join(home, ".ssh", "known_hosts"), filepath.Join(home, ".ssh", "known_hosts2")}
	}
	return a
}

// newRemote returns how contexts are fetched. As with docker, a context that the user names may use the user's agent.
func (b *build) newRemote(o *builder.Options) (r remote, err error) {
	args := spec.Args{}
	if err := args.SetAll(b.spec.Arguments.List, b.engine.Env, "build argument"); err != nil {
		return r, err
	}

	r.access = o.Inputs.Remote
	r.options.KeepGitDir, _ = strconv.ParseBool(args["BUILDKIT_CONTEXT_KEEP_GIT_DIR"])
	r.options.CommitTimes = o.Layers.Epoch != nil || args["SOURCE_DATE_EPOCH"] != ""
	if socket, _ := b.engine.Env("SSH_AUTH_SOCK"); r.access.Agent == nil && socket != "" {
		if keys, err := sshagent.Open(socket); err == nil {
			r.access.Agent = keys
		}
	}
	return r, nil
}

// isRemote reports whether a location must be fetched. A file or directory of that name comes first.
func isRemote(location string) bool {
	if !source.IsContext(location) {
		return false
	}
	_, err := os.Lstat(location)
	return err != nil
}

// fetchContext brings the context to a directory. dir is empty if the URL is that of a Dockerfile.
func (in *input) fetchContext(ctx context.Context, location string) (dir string, err error) {
	if dir, in.release, err = in.build.images.NewScratch(); err != nil {
		return "", err
	}

	c, err := in.remote.access.Context(ctx, location, dir, in.remote.options)
	if err != nil {
		return "", fmt.Errorf("the build context: %w", err)
	}

	for _, w := range c.Warnings {
		warn(in.build.log, w)
	}
	in.time = c.Time
	in.from = instructions.Redact(location)
	if c.Dir == "" {
		in.add(in.from, ignore.Dockerfile{}, c.Dockerfile)
	}
	return c.Dir, nil
}

// fetchDockerfile reads a Dockerfile from a URL.
func (in *input) fetchDockerfile(ctx context.Context, url string) error {
	dir, release, err := in.build.images.NewScratch()
	if err != nil {
		return err
	}

	text, err := in.remote.access.Text(ctx, url, dir)
	if releaseErr := release(); err == nil && releaseErr != nil {
		err = releaseErr
	}
	if err != nil {
		return fmt.Errorf("the Dockerfile: %w", err)
	}

	in.add(instructions.Redact(url), ignore.Dockerfile{}, text)
	return nil
}
