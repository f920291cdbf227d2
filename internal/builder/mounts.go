package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"codeberg.org/rbuild/rbuild/internal/copier"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

// stepMounts are the mounts of one RUN, made for it. Sources are descriptors from the moment they are found, so that
// nothing that another stage or process does leads a mount elsewhere (CVE-2024-11218). Each bind mount is a part of an
// overlay whose upper directory is thrown away: what the step writes is seen by it alone, and never reaches a layer of
// the store or the user's files, whatever becomes of the read-only flag.
type stepMounts struct {
	list    []specs.Mount
	volumes int                 // how many of the first are of --compat-volumes: below all others
	sources map[string]*os.File // of bind mounts, and of volumes with an overlay, by target
	env     []string            // K=V: secrets, and the agent's socket

	dir    string // scratch beside the step's upper directory, "" until it is needed
	count  int    // of what was made in dir
	memory *os.File
	caches map[string]*containers.Cache // by name
	undo   []func() error               // in reverse
}

// makeMounts makes them. What it returns is to be closed, also after an error.
func (s *stage) makeMounts(ctx context.Context, u upper, op *plan.Run, files []runFile, sources mountSources) (*stepMounts, error) {
	p := &stepMounts{sources: map[string]*os.File{}, caches: map[string]*containers.Cache{}}
	if err := s.coverVolumes(p, u, op, files); err != nil {
		return p, err
	}
	if err := s.overlayVolumes(p, u); err != nil {
		return p, err
	}
	if err := s.openCaches(ctx, p, op, sources); err != nil {
		return p, err
	}

	for _, m := range op.Mounts {
		var err error
		switch m.Type {
		case instructions.MountBind:
			err = s.bindMount(ctx, p, u, m, sources[m.Number])
		case instructions.MountCache:
			c := p.caches[cacheSpec(m, sources[m.Number]).Name()]
			err = p.bind(m, c.Dir, "rw", m.Attributes...)
		case instructions.MountTmpfs:
			err = p.tmpfs(m)
		case instructions.MountSecret:
			err = s.secretMount(p, u, m)
		case instructions.MountSSH:
			err = s.sshMount(ctx, p, u, m)
		}
		if err != nil {
			return p, fmt.Errorf("--mount: %s: %w", describe(m), err)
		}
	}

	p.setSocket(op)

	return p, nil
}

// describe names a mount in an error.
func describe(m plan.Mount) string {
	if m.Target == "" {
		return m.Type + " " + m.ID
	}
	return "target " + m.Target
}

// environ adds the variables of the mounts, which win over those of the image.
func (p *stepMounts) environ(env []string) []string {
	if len(p.env) == 0 {
		return env
	}

	names := map[string]bool{}
	for _, kv := range p.env {
		name, _, _ := strings.Cut(kv, "=")
		names[name] = true
	}

	var out []string
	for _, kv := range env {
		if name, _, _ := strings.Cut(kv, "="); !names[name] {
			out = append(out, kv)
		}
	}

	return append(out, p.env...)
}

// replaces tells whether a mount of the Dockerfile has the place of m, a file or volume that the builder binds.
func (p *stepMounts) replaces(m specs.Mount) bool {
	return m.Type == "bind" && slices.ContainsFunc(p.list[p.volumes:], func(o specs.Mount) bool { return o.Destination == m.Destination })
}

// bind adds a bind mount of source, which stays the caller's. access is "rw" or "ro"; the mount's own ro wins.
func (p *stepMounts) bind(m plan.Mount, source *os.File, access string, options ...string) error {
	if m.ReadOnly {
		access = "ro"
	}
	st, err := fdfs.FileStat(source)
	if err != nil {
		return err
	}
	if err := p.mountPoint(m.Target, st.Type == fdfs.Directory); err != nil {
		return err
	}

	p.sources[m.Target] = source
	p.list = append(p.list, specs.Mount{
		Destination: m.Target, Type: "bind", Source: source.Name(), Options: append([]string{"bind", access}, options...),
	})
	return nil
}

func (p *stepMounts) tmpfs(m plan.Mount) error {
	if err := p.mountPoint(m.Target, true); err != nil {
		return err
	}

	options := append([]string{"nosuid"}, m.Attributes...)
	if m.ReadOnly {
		options = append(options, "ro")
	}
	if m.Size > 0 {
		options = append(options, "size="+strconv.FormatInt(m.Size, 10))
	}
	if m.Mode != nil {
		options = append(options, fmt.Sprintf("mode=%o", *m.Mode))
	}
	p.list = append(p.list, specs.Mount{Destination: m.Target, Type: "tmpfs", Source: "tmpfs", Options: options})
	return nil
}

// mountPoint makes the place of a mount that lies in another of the step's: in a cache, where it stays, or in the
// throw-away part of a bind mount. In a tmpfs and in the image the sandbox does it.
func (p *stepMounts) mountPoint(target string, isDir bool) error {
	in := -1
	for i, m := range p.list {
		if strings.HasPrefix(target, m.Destination+"/") {
			in = i
		}
	}

	if in < 0 || p.list[in].Type != "bind" {
		return nil
	}

	outer := p.list[in].Destination
	c := fdfs.NewCursor(fdfs.OnDisk(p.sources[outer]))
	defer c.Close()

	rel := strings.TrimPrefix(target, outer)
	if isDir {
		if err := c.Enter(rel, makeDir); err != nil {
			return fmt.Errorf("making its place in the mount at %s: %w", outer, err)
		}
		return nil
	}

	name, st, err := c.Resolve(rel, makeDir)
	if err == nil && st.Type == fdfs.Unknown {
		var f fdfs.NewFile
		if f, err = c.Dir().Create(name, 0); err == nil {
			err = f.Close()
		}
	}
	if err != nil {
		return fmt.Errorf("making its place in the mount at %s: %w", outer, err)
	}

	return nil
}

// makeDir makes a directory on the way to a mount point.
func makeDir(dir fdfs.Dir, name string) error {
	return fdfs.MkdirAt(fdfs.DescriptorOf(dir), name, 0o755)
}

// scratch makes a new directory of the step's.
func (p *stepMounts) scratch(u upper) (dir string, err error) {
	if p.dir == "" {
		if p.dir, err = os.MkdirTemp(u.Dir, "mounts-"); err != nil {
			return "", err
		}
		p.undo = append(p.undo, func() error { return os.RemoveAll(p.dir) })
	}
	p.count++
	dir = filepath.Join(p.dir, strconv.Itoa(p.count))
	return dir, os.Mkdir(dir, 0o700)
}

// attach gives a detached mount a place in the builder's mount namespace until close: before Linux 6.15 a part of it
// could not be bound otherwise. The place is in the store's staging area, which no step can see.
func (p *stepMounts) attach(mount *os.File, at string) (root *os.File, err error) {
	if err := os.Mkdir(at, 0o700); err != nil {
		return nil, err
	}
	if err := fdfs.AttachMount(mount, at); err != nil {
		return nil, err
	}
	p.undo = append(p.undo, func() error { return fdfs.DetachMount(at) })
	if root, err = fdfs.OpenDirAt(mount, "."); err == nil {
		p.undo = append(p.undo, root.Close)
	}
	return root, err
}

// layered mounts an overlay over lowers with a throw-away upper directory, which fill prepares.
func (p *stepMounts) layered(u upper, lowers []string, trusted bool, fill func(upper string) error) (*os.File, error) {
	dir, err := p.scratch(u)
	if err != nil {
		return nil, err
	}

	m := overlay.Mount{
		Lowers: lowers, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"), Volatile: true, Trusted: trusted,
	}
	if err := errors.Join(os.Mkdir(m.Upper, 0o755), os.Mkdir(m.Work, 0o700)); err != nil {
		return nil, err
	}
	if err := fill(m.Upper); err != nil {
		return nil, err
	}

	mount, err := overlay.Detach(m)
	if err != nil {
		return nil, err
	}

	root, err := p.attach(mount, filepath.Join(dir, "at"))
	return root, errors.Join(err, mount.Close())
}

// bindMount mounts a part of the context, of a stage or of an image.
func (s *stage) bindMount(ctx context.Context, p *stepMounts, u upper, m plan.Mount, src *mountSource) error {
	var root *os.File
	var err error
	where := src.path
	if src.snap == nil {
		root, where, err = s.mountContext(ctx, p, u, src)
	} else {
		root, err = p.layered(u, s.reads.lowers(src.snap), s.Trusted, src.snap.root.shape)
		if src.selection != nil {
			where = src.selection.Path()
		}
	}
	if err != nil {
		return s.explain(err)
	}

	c := fdfs.NewCursor(fdfs.OnDisk(root))
	defer c.Close()

	name, st, err := c.Resolve(path.Join("/", where), nil)
	if err != nil {
		return fmt.Errorf("source %s: %w", src.path, err)
	}
	if st.Type == fdfs.Unknown {
		return fmt.Errorf("source %s: %w", src.path, os.ErrNotExist)
	}
	if st.Type != fdfs.Directory && st.Type != fdfs.Regular {
		return fmt.Errorf("source %s is a %s", src.path, st.Type)
	}

	place, err := fdfs.OpenPathAt(fdfs.DescriptorOf(c.Dir()), name)
	if err != nil {
		return fmt.Errorf("source %s: %w", src.path, err)
	}

	p.undo = append(p.undo, place.Close)

	return p.bind(m, place, "rw", m.Attributes...)
}

// errNotAsItIs says that files of the context have to be copied to be seen as COPY would give them.
var errNotAsItIs = errors.New("the context has other owners or modes than the image would")

// mountContext shows the context without what the ignore file excludes: the user's directory below an upper one with
// whiteouts, or, where owners or modes differ from what COPY gives, or overlayfs cannot lie over it, a copy.
func (s *stage) mountContext(ctx context.Context, p *stepMounts, u upper, src *mountSource) (root *os.File, where string, err error) {
	from := src.tree.Root()
	root, err = p.layered(u, []string{descriptorPath(from)}, s.Trusted, func(upper string) error {
		st, err := fdfs.FileStat(from)
		if err != nil {
			return err
		}

		dir, err := os.Open(upper)
		if err != nil {
			return err
		}

		ok, err := src.selection.Hide(dir)
		if err == nil && !ok {
			err = errNotAsItIs
		}
		return errors.Join(err, fdfs.Chmod(dir, st.Mode), dir.Close())
	})
	if err == nil {
		src.live = true
		return root, src.selection.Path(), nil
	}

	dir, err := s.contextCopy(ctx, src.selection)
	if err != nil {
		return nil, "", err
	}

	root, err = p.layered(u, []string{dir}, s.Trusted, func(string) error { return nil })

	return root, copier.ShownName, err
}

// contextCopy copies a part of the context, once for all steps of the build: nobody writes to it.
func (b *builder) contextCopy(ctx context.Context, selection *copier.Selection) (string, error) {
	b.mu.Lock()
	made, ok := b.copies[selection.Digest()]
	if !ok {
		made = sync.OnceValues(func() (string, error) {
			dir, err := os.MkdirTemp(b.scratch.Dir, "context-")
			if err != nil {
				return "", err
			}
			to, err := os.Open(dir)
			if err != nil {
				return "", err
			}
			return dir, errors.Join(selection.Materialize(ctx, fdfs.OnDisk(to)), to.Close())
		})
		b.copies[selection.Digest()] = made
	}

	b.mu.Unlock()
	return made()
}

// close gives everything back, what was made last first.
func (p *stepMounts) close() error {
	var errs []error
	for _, undo := range slices.Backward(p.undo) {
		if err := undo(); err != nil {
			errs = append(errs, err)
			if p.dir != "" {
				break // nothing is removed below a mount that may still be there
			}
		}
	}

	for _, c := range p.caches {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
