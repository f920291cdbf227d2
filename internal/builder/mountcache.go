package builder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/copier"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// cacheSpec says which cache a mount means. As in BuildKit, one that begins with other files, or whose directory has
// another mode or owner, is another cache, whatever its id is.
func cacheSpec(m plan.Mount, src *mountSource) containers.CacheSpec {
	spec := containers.CacheSpec{Identity: []string{"cache mount, version 1", m.ID, optional(m.Mode), optional(m.UID), optional(m.GID)}}
	if src != nil {
		spec.Identity = append(spec.Identity, src.digest, src.path)
	}
	switch m.Sharing {
	case instructions.SharingPrivate:
		spec.Sharing = containers.Private
	case instructions.SharingLocked:
		spec.Sharing = containers.Locked
	}
	return spec
}

func optional(n *uint32) string {
	if n == nil {
		return ""
	}
	return fmt.Sprint(*n)
}

// openCaches takes the caches of a step into use, each once and in the order of their names, so that two steps cannot
// wait for each other.
func (s *stage) openCaches(ctx context.Context, p *stepMounts, op *plan.Run, sources mountSources) error {
	wanted := map[string]containers.CacheSpec{}
	ids := map[string]string{}
	for _, m := range op.Mounts {
		if m.Type != instructions.MountCache {
			continue
		}
		src := sources[m.Number]
		spec := cacheSpec(m, src)
		name := spec.Name()
		spec.Sharing = max(spec.Sharing, wanted[name].Sharing)
		spec.Fill = func(dir *os.File) error { return s.fillCache(ctx, dir, m, src) }
		wanted[name], ids[name] = spec, m.ID
	}

	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		spec := wanted[name]
		resume := s.clock.pause()
		fill := spec.Fill
		spec.Fill = func(dir *os.File) error { // no longer waits
			resume()
			return fill(dir)
		}
		c, err := s.Store.OpenCache(ctx, spec, func() {
			s.notice(fmt.Sprintf("%s waits for cache mount %s, which another step is using", s.place(), ids[name]))
		})
		resume()
		if err != nil {
			return fmt.Errorf("--mount: cache %s: %w", ids[name], err)
		}
		p.caches[name] = c
	}

	return nil
}

// place names the step that is being run.
func (s *stage) place() string {
	return strings.TrimSpace(fmt.Sprintf("step %d/%d %s", s.number, s.total, s.plan.Name))
}

// fillCache gives a new cache its first content, mode and owner.
func (s *stage) fillCache(ctx context.Context, dir *os.File, m plan.Mount, src *mountSource) error {
	top := fdfs.Stat{Mode: 0o755}
	if src != nil {
		if err := s.pourSource(ctx, dir, src); err != nil {
			return err
		}

		// The cache gets its name when this returns, and keeps it for all later builds.
		if err := s.reads.settle(); err != nil {
			return err
		}
		var err error
		if top, err = fdfs.FileStat(dir); err != nil {
			return err
		}
	}

	if err := fdfs.Chown(dir, given(m.UID, top.UID), given(m.GID, top.GID)); err != nil {
		return err
	}
	return fdfs.Chmod(dir, given(m.Mode, top.Mode))
}

// pourSource copies what a cache begins with.
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

// given is an option's value, or its default.
func given(option *uint32, otherwise uint32) uint32 {
	if option != nil {
		return *option
	}
	return otherwise
}
