package builder

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// compatVolumes are the volumes that --compat-volumes keeps RUN from changing, clean and sorted, without those that lie
// in another one.
func (s *stage) compatVolumes() (out []string) {
	if !s.Run.CompatVolumes {
		return nil
	}

	var all []string
	for v := range s.config.Config.Volumes {
		all = append(all, path.Join("/", v))
	}
	slices.Sort(all)
	for _, v := range slices.Compact(all) {
		if !slices.ContainsFunc(out, func(outer string) bool { return below(v, outer) }) {
			out = append(out, v)
		}
	}

	return out
}

// below tells whether the clean path lies in dir.
func below(path, dir string) bool { return strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/") }

// volumeContent is what --compat-volumes adds to the key of a RUN.
func volumeContent(volumes []string) (out []string) {
	for _, v := range volumes {
		out = append(out, "compat volume "+v)
	}
	return out
}

// coverVolumes mounts over each volume what it holds, below an upper directory that is thrown away with what the step
// writes there. A volume that the image lacks is an empty directory for the step. Where something else is mounted there
// is nothing to do.
func (s *stage) coverVolumes(p *stepMounts, u upper, op *plan.Run, files []runFile) error {
	volumes := slices.DeleteFunc(s.compatVolumes(), func(v string) bool { return s.taken(v, op, files) })
	if len(volumes) == 0 {
		return nil
	}

	lowers := append(s.unfinished(), s.reads.lowers(s.snapshot)...)
	root, err := p.layered(u, lowers, s.Trusted, s.root.shape)
	if err != nil {
		return s.explain(err)
	}

	for _, v := range volumes {
		if v == "/" {
			return errors.New("--compat-volumes: the volume / is all of the image")
		}

		c := fdfs.NewCursor(fdfs.OnDisk(root))
		p.undo = append(p.undo, func() error { c.Close(); return nil })
		err := c.Enter(v, makeDir)
		if err == nil {
			err = p.bind(plan.Mount{Mount: instructions.Mount{Target: v}}, fdfs.DescriptorOf(c.Dir()), "rw")
		}
		if err != nil {
			return fmt.Errorf("--compat-volumes: the volume %s: %w", v, err)
		}
	}

	p.volumes = len(p.list)
	for _, f := range files {
		err = errors.Join(err, p.mountPoint(f.dest, false))
	}
	for _, v := range s.Run.Volumes {
		st, statErr := fdfs.FileStat(v.Source)
		err = errors.Join(err, statErr, p.mountPoint(v.Dest, st.Type == fdfs.Directory))
	}

	return err
}

// taken tells whether something is mounted at path for the step anyway.
func (s *stage) taken(path string, op *plan.Run, files []runFile) bool {
	for _, m := range sandbox.DefaultSpec().Mounts {
		if path == m.Destination || below(path, m.Destination) {
			return true
		}
	}
	return slices.ContainsFunc(files, func(f runFile) bool { return f.dest == path }) ||
		slices.ContainsFunc(s.Run.Volumes, func(v Volume) bool { return v.Dest == path }) ||
		slices.ContainsFunc(op.Mounts, func(m plan.Mount) bool { return m.Target == path })
}

// overlayVolumes mounts an overlay over each directory of --volume HOST:PATH:O. The upper directory holds the writes of the
// step and is removed after the step.
func (s *stage) overlayVolumes(p *stepMounts, u upper) error {
	for _, v := range s.Run.Volumes {
		if !v.Overlay {
			continue
		}

		root, err := p.layered(u, []string{descriptorPath(v.Source)}, s.Trusted, func(upper string) error {
			st, err := fdfs.FileStat(v.Source)
			if err != nil {
				return err
			}
			dir, err := os.Open(upper)
			if err != nil {
				return err
			}
			return errors.Join(fdfs.Chmod(dir, st.Mode), dir.Close())
		})
		if err != nil {
			return fmt.Errorf("--volume %s: an overlay cannot be mounted over it: %w", v.Text, s.explain(err))
		}
		p.sources[v.Dest] = root
	}

	return nil
}
