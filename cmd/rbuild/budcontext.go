package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/copier"
	"codeberg.org/rbuild/rbuild/internal/runner"
	"codeberg.org/rbuild/rbuild/internal/source"
	"codeberg.org/rbuild/rbuild/internal/source/sshagent"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// elsewhere is how contexts are fetched.
type elsewhere struct {
	access  source.Access
	options source.ContextOptions
	warn    func(text string)
}

// remoteAccess is how git repositories and URLs are reached: with the secrets of the command line, the agent that it calls
// "default", and the ssh hosts that the user knows.
func remoteAccess(run runner.Options, env lookup) source.Access {
	a := source.Access{Environment: os.Environ(), Secrets: run.Secrets}
	if keys := run.SSH["default"]; keys != nil {
		a.Agent = keys
	}
	if home, _ := env("HOME"); filepath.IsAbs(home) {
		a.KnownHosts = []string{filepath.Join(home, ".ssh", "known_hosts"), filepath.Join(home, ".ssh", "known_hosts2")}
	}
	return a
}

// elsewhere says how contexts are fetched, for these flags.
func (f *budFlags) elsewhere(o builder.Options, env lookup) (elsewhere, error) {
	e := elsewhere{access: o.Inputs.Remote, warn: func(text string) { warn(o.Listener, text) }}
	args := buildArgs{}
	if err := args.setAll(f.plan.buildArgs, env); err != nil {
		return e, err
	}

	e.options.KeepGitDir, _ = strconv.ParseBool(args["BUILDKIT_CONTEXT_KEEP_GIT_DIR"])
	e.options.CommitTimes = o.Layers.Epoch != nil || args["SOURCE_DATE_EPOCH"] != ""

	// As docker does, a context that the user himself names may use his agent.
	if socket, _ := env("SSH_AUTH_SOCK"); e.access.Agent == nil && socket != "" {
		if keys, err := sshagent.Open(socket); err == nil {
			e.access.Agent = keys
		}
	}

	return e, nil
}

// open opens what the flags name: what RUN gets to see, the Dockerfile and the context. o.Listener is told of warnings.
func (f *budFlags) open(ctx context.Context, place imagePlace, o *builder.Options) (*input, error) {
	if err := f.run.open(&o.Run, os.LookupEnv); err != nil {
		return nil, err
	}

	o.Inputs.Remote = remoteAccess(o.Run, os.LookupEnv)
	far, err := f.elsewhere(*o, os.LookupEnv)
	if err != nil {
		return nil, err
	}

	in, err := f.input.open(ctx, place, far, os.Stdin)
	if err == nil {
		in.far = far
	}
	return in, err
}

// isElsewhere tells whether an argument names something to be fetched; a file or directory of that name comes first.
func isElsewhere(arg string) bool {
	if !source.IsContext(arg) {
		return false
	}
	_, err := os.Lstat(arg)
	return err != nil
}

// fetchContext brings a context that lies elsewhere; dir is empty if a Dockerfile is all that there is.
func (in *input) fetchContext(ctx context.Context, place imagePlace, e elsewhere, arg string) (dir string, err error) {
	if dir, in.release, err = place.NewScratch(); err != nil {
		return "", err
	}

	c, err := e.access.Context(ctx, arg, dir, e.options)
	if err != nil {
		return "", fmt.Errorf("the build context: %w", err)
	}

	for _, w := range c.Warnings {
		e.warn(w)
	}
	in.time, in.from = c.Time, instructions.Redact(arg)
	if c.Dir == "" {
		in.add(in.from, copier.Dockerfile{}, c.Dockerfile)
	}
	return c.Dir, nil
}

// fetchDockerfile brings a Dockerfile from a URL.
func (in *input) fetchDockerfile(ctx context.Context, place imagePlace, e elsewhere, url string) error {
	dir, release, err := place.NewScratch()
	if err != nil {
		return err
	}

	text, err := e.access.Text(ctx, url, dir)
	if releaseErr := release(); err == nil {
		err = releaseErr
	}
	if err != nil {
		return fmt.Errorf("the Dockerfile: %w", err)
	}

	in.add(instructions.Redact(url), copier.Dockerfile{}, text)
	return nil
}
