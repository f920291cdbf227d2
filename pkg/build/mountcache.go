package build

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"codeberg.org/rbuild/rbuild/pkg/copy"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
	"codeberg.org/rbuild/rbuild/pkg/internal/linux"
	"codeberg.org/rbuild/rbuild/pkg/plan"
	"codeberg.org/rbuild/rbuild/pkg/store"
)

// cacheSpec says which cache a mount means. As in BuildKit, one that begins with other files, or whose directory has
// another mode or owner, is another cache, whatever its id is.
func cacheSpec(m plan.Mount, src *mountSource) store.CacheSpec {
	spec := store.CacheSpec{Identity: []string{"cache mount, version 1", m.ID, optional(m.Mode), optional(m.UID), optional(m.GID)}}
	if src != nil {
		spec.Identity = append(spec.Identity, src.digest, src.path)
	}
	switch m.Sharing {
	case instructions.SharingPrivate:
		spec.Sharing = store.Private
	case instructions.SharingLocked:
		spec.Sharing = store.Locked
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
	wanted := map[string]store.CacheSpec{}
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
		c, err := s.Store.OpenCache(ctx, wanted[name], func() {
			s.notice(fmt.Sprintf("%s waits for cache mount %s, which another step is using", s.place(), ids[name]))
		})
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
	uid, gid, mode := uint32(0), uint32(0), uint32(0o755)
	if src != nil {
		if err := s.openView(src); err != nil {
			return err
		}
		selection := src.selection
		if selection == nil {
			var err error
			if selection, err = copy.SelectPath(ctx, src.tree, path.Join("/", src.path)); err != nil {
				return err
			}
			defer selection.Close()
		}
		if err := selection.Pour(ctx, dir); err != nil {
			return err
		}
		st, err := linux.FileStat(dir)
		if err != nil {
			return err
		}
		uid, gid, mode = st.UID, st.GID, st.Mode
	}
	for _, set := range []struct{ to, from *uint32 }{{&uid, m.UID}, {&gid, m.GID}, {&mode, m.Mode}} {
		if set.from != nil {
			*set.to = *set.from
		}
	}
	if err := linux.Chown(dir, uid, gid); err != nil {
		return err
	}
	return linux.Chmod(dir, mode)
}
