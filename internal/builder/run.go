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

	"codeberg.org/rbuild/rbuild/internal/copier"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/runner"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

// runStep runs RUN.
func (s *stage) runStep(ctx context.Context, step *plan.Step, op *plan.Run, r *report) (err error) {
	command := s.command(op)
	if err := s.Run.Check(command); err != nil {
		return err
	}

	sources, err := s.mountSources(ctx, op)
	defer func() { err = errors.Join(err, sources.close()) }()
	if err != nil {
		return err
	}

	return s.files(ctx, step, sources.content(), r, func(ctx context.Context, u upper) (bool, error) {
		command.Mounts = s.mounts(op, sources)
		if err := s.runIn(ctx, u, command, r); err != nil {
			return false, err
		}
		s.duplicates(ctx, step, op, u)
		return true, s.sourcesUnchanged(ctx, step, sources)
	})
}

// command translates a RUN, without its mounts.
func (s *stage) command(op *plan.Run) runner.Command {
	c := runner.Command{
		Argv: op.Argv, Env: op.Env, User: op.User, Dir: op.Dir, Hostname: op.Hostname, Insecure: op.Insecure,
		Volumes:  slices.Collect(maps.Keys(s.config.Config.Volumes)),
		Platform: s.config.Platform,
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
	if c.Platform.Architecture == s.Platform.Architecture {
		c.Platform.Architecture = s.plan.Platform.Architecture
	}

	return c
}

// runIn runs the command with the step's upper directory under it.
func (s *stage) runIn(ctx context.Context, u upper, command runner.Command, r *report) error {
	lowers := s.reads.lowers(s.snapshot)
	output := progress.StepWriter(r.listener, r.step)
	result, err := s.runner.Run(ctx, runner.Process{
		Command: command,
		Root: runner.Root{
			Overlay: overlay.Mount{Lowers: lowers, Upper: u.Upper, Work: u.work, Trusted: s.Trusted},
			Before:  append(s.unfinished(), lowers...),
			Scratch: u.Dir,
			View:    s.view,
			Users:   &s.users,
		},
		Output: output,
		Caches: stepCaches{s},
	})

	r.usage = result.Usage
	for _, d := range result.Degraded {
		s.warnOnce(d)
	}
	for _, w := range result.Warnings {
		s.remark(w)
	}
	return errors.Join(err, output.Close())
}

// mounts translates the mounts of a RUN.
func (s *stage) mounts(op *plan.Run, sources mountSources) []runner.Mount {
	var out []runner.Mount
	for _, m := range op.Mounts {
		attributes := runner.FileAttributes{Mode: m.Mode, UID: m.UID, GID: m.GID}
		mount := runner.Mount{Target: m.Target, Number: m.Number, ReadOnly: m.ReadOnly, Attributes: m.Attributes}
		switch m.Type {
		case instructions.MountBind:
			mount.Source = s.bind(sources[m.Number])
		case instructions.MountCache:
			mount.Source = s.cache(m, attributes, sources[m.Number])
		case instructions.MountTmpfs:
			mount.Source = runner.Tmpfs{Size: m.Size, Mode: m.Mode}
		case instructions.MountSecret:
			mount.Source = runner.Secret{ID: m.ID, Env: m.Env, Required: m.Required, FileAttributes: attributes}
		case instructions.MountSSH:
			mount.Source = runner.SSH{ID: m.ID, Required: m.Required, FileAttributes: attributes}
		}
		out = append(out, mount)
	}
	return out
}

// bind translates the source of a bind mount: a part of a stage, of an image or of the build context.
func (s *stage) bind(src *mountSource) runner.Bind {
	b := runner.Bind{Name: src.path}
	if src.snap != nil {
		b.Tree = runner.Tree{Lowers: s.reads.lowers(src.snap), Path: src.path}
		if src.selection != nil {
			b.Tree.Path = src.selection.Path()
		}
		return b
	}

	// The user's directory below an upper directory with whiteouts for the files that the ignore file excludes.
	from := src.tree.Root()
	src.live = true
	b.Tree = runner.Tree{
		Lowers: []string{descriptorPath(from)}, Path: src.selection.Path(),
		Prepare: func(upper *os.File) error {
			st, err := fdfs.FileStat(from)
			if err != nil {
				return err
			}
			same, err := src.selection.Hide(upper)
			if err == nil && !same {
				err = errNotAsItIs
			}
			return errors.Join(err, fdfs.Chmod(upper, st.Mode))
		},
	}
	b.Fallback = func(ctx context.Context) (runner.Tree, error) {
		src.live = false
		dir, err := s.contextCopy(ctx, src.selection)
		return runner.Tree{Lowers: []string{dir}, Path: copier.ShownName, Prepare: func(*os.File) error { return nil }}, err
	}
	return b
}

// errNotAsItIs says that files of the context have to be copied to be seen as COPY would give them.
var errNotAsItIs = errors.New("the context has other owners or modes than the image would")

// cache translates a cache mount.
func (s *stage) cache(m plan.Mount, attributes runner.FileAttributes, src *mountSource) runner.Cache {
	c := runner.Cache{ID: m.ID, FileAttributes: attributes}
	switch m.Sharing {
	case instructions.SharingPrivate:
		c.Sharing = runner.PrivateCopies
	case instructions.SharingLocked:
		c.Sharing = runner.Locked
	}

	if src != nil {
		c.Content = &runner.CacheContent{Digest: src.digest, Path: src.path, Pour: func(ctx context.Context, dir *os.File) error {
			if err := s.pourSource(ctx, dir, src); err != nil {
				return err
			}
			// The cache gets its name when this returns, and keeps it for all later builds.
			return s.reads.settle()
		}}
	}

	return c
}

// pourSource copies the first content of a cache.
func (s *stage) pourSource(ctx context.Context, dir *os.File, src *mountSource) error {
	if src.selection != nil {
		return src.selection.Pour(ctx, fdfs.OnDisk(dir))
	}
	if err := s.openView(src); err != nil {
		return err
	}

	selection, err := copier.SelectPath(ctx, src.tree, src.path)
	if err != nil {
		return err
	}

	for _, w := range selection.Warnings() {
		s.remark(fmt.Sprintf("--mount: cache from %s: %s", src.path, w))
	}
	return errors.Join(selection.Pour(ctx, fdfs.OnDisk(dir)), selection.Close())
}

// stepCaches opens the caches of the store for a step. The step's clock pauses while the step waits for a cache.
type stepCaches struct{ *stage }

// CacheName returns the name of a cache in the store.
func (s stepCaches) CacheName(identity []string) string {
	return containers.CacheSpec{Identity: identity}.Name()
}

// OpenCache opens a cache of the store.
func (s stepCaches) OpenCache(ctx context.Context, c runner.CacheSpec) (runner.OpenCache, error) {
	spec := containers.CacheSpec{Identity: c.Identity}
	switch c.Sharing {
	case runner.Shared:
		spec.Sharing = containers.Shared
	case runner.PrivateCopies:
		spec.Sharing = containers.Private
	case runner.Locked:
		spec.Sharing = containers.Locked
	}

	resume := s.clock.pause()
	defer resume()
	spec.Fill = func(dir *os.File) error { // no longer waits
		resume()
		return c.Fill(dir)
	}
	opened, err := s.Store.OpenCache(ctx, spec, func() {
		s.notice(fmt.Sprintf("%s waits for cache mount %s, which another step is using", s.place(), c.ID))
	})
	if err != nil {
		return nil, err
	}
	return openCache{opened}, nil
}

// openCache is a cache of the store in use.
type openCache struct{ *containers.Cache }

// Dir returns the directory of the cache.
func (c openCache) Dir() *os.File { return c.Cache.Dir }

// place names the step that is being run.
func (s *stage) place() string {
	return strings.TrimSpace(fmt.Sprintf("step %d/%d %s", s.number, s.total, s.plan.Name))
}
