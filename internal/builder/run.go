package builder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/internal/runner"
)

// runChange is RUN.
func (s *stage) runChange(ctx context.Context, st *step, op *plan.Run) (*change, error) {
	command := s.command(op)
	if err := s.build.options.Run.Check(command); err != nil {
		return nil, err
	}

	sources, err := s.mountSources(ctx, st, op)
	if err != nil {
		return nil, err
	}

	write := func(ctx context.Context, l rootfs.Layer) (bool, error) {
		command.Mounts, err = s.build.mounts(st, op, sources)
		if err != nil {
			return false, err
		}
		if err := s.runProcess(ctx, st, l, command); err != nil {
			return false, err
		}
		s.build.findings.duplicates(ctx, st, op, l)
		return true, sources.checkUnchanged(ctx, st)
	}
	return &change{content: sources.content(), process: s.build.options.Run.Key(command), write: write}, nil
}

// command translates a RUN, without its mounts.
func (s *stage) command(op *plan.Run) runner.Command {
	config := s.now.config
	c := runner.Command{
		Argv: op.Argv, Env: op.Env, User: op.User, Dir: op.Dir, Hostname: op.Hostname, Insecure: op.Insecure,
		Volumes:  slices.Collect(maps.Keys(config.Config.Volumes)),
		Platform: config.Platform,
	}
	if op.Network == "none" || op.Network == "host" {
		c.Network = runner.NetworkMode(op.Network)
	}
	for _, f := range op.Files {
		c.Files = append(c.Files, runner.File{
			Path: path.Join(plan.PipesDir, f.Name), Data: f.Data,
			UseLF: "it is a here-document: write the Dockerfile with LF (git: \"Dockerfile text eol=lf\" in .gitattributes)",
		})
	}

	// The config of an image may name this machine's architecture although FROM asked for another.
	if c.Platform.Architecture == s.build.options.Run.Machine.Architecture {
		c.Platform.Architecture = s.plan.Platform.Architecture
	}

	return c
}

// runProcess runs the command on the files of a layer.
func (s *stage) runProcess(ctx context.Context, st *step, l rootfs.Layer, command runner.Command) error {
	mount, err := l.Mount()
	if err != nil {
		return err
	}
	before, err := rootfs.Before(mount)
	if err != nil {
		return err
	}

	view := func() (*os.File, error) {
		root, err := s.view(ctx, st)
		if err != nil {
			return nil, err
		}
		st.atEnd(root.Close)
		return fdfs.DescriptorOf(root), nil
	}
	output := progress.StepWriter(st.show.listener, st.progress)
	result, err := s.build.runner.Run(ctx, runner.Process{
		Command: command,
		Root:    runner.Root{Overlay: mount, Before: before, Scratch: l.TempDir(), View: view, Users: &s.users},
		Output:  output,
		Caches:  stepCaches{Caches: s.build.options.Caches, stage: s, step: st},
	})

	st.usage = result.Usage
	for _, text := range result.Degraded {
		st.show.warnOnce(text)
	}
	for _, text := range result.Warnings {
		st.remark(text)
	}
	return errors.Join(err, output.Close())
}

// stepCaches opens the caches of a step. The clock of the step pauses while the step waits for a cache.
type stepCaches struct {
	runner.Caches
	stage *stage
	step  *step
}

// OpenCache opens a cache.
func (c stepCaches) OpenCache(ctx context.Context, spec runner.CacheSpec) (runner.OpenCache, error) {
	resume := c.step.clock.pause()
	defer resume()
	fill := spec.Fill
	spec.Fill = func(dir *os.File) error { // no longer waits
		resume()
		return fill(dir)
	}

	spec.Waiting = func() {
		place := strings.TrimSpace(fmt.Sprintf("step %d/%d %s", c.stage.number, c.stage.total, c.stage.plan.Name))
		c.step.show.notice(fmt.Sprintf("%s waits for cache mount %s, which another step is using", place, spec.ID))
	}
	return c.Caches.OpenCache(ctx, spec)
}
