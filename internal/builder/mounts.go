package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"

	"codeberg.org/rbuild/rbuild/internal/copier"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/runner"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// mountSource is the files that a bind mount shows, or that a cache begins with.
type mountSource struct {
	snap *snapshot // of the stage or image; nil: a build context
	tree *copier.Tree
	// selection is the digested source. It is nil if digest is known without looking at the files: they are those of an
	// image, or all those of a stage, which the digests of their layers identify.
	selection *copier.Selection
	digest    string
	path      string // of the source below its root
	live      bool   // the step sees a directory of the user, not a copy
}

// mountSources are the sources of a RUN's mounts, by the mounts' Number.
type mountSources map[int]*mountSource

// mountSources finds the sources before the key of the RUN is computed. Nothing is locked yet: finding a source may mean to
// wait for another stage.
func (s *stage) mountSources(ctx context.Context, st *step, op *plan.Run) (mountSources, error) {
	out := mountSources{}
	for _, m := range op.Mounts {
		if m.Type != instructions.MountBind && m.Files == nil || m.Type == instructions.MountTmpfs {
			continue
		}

		src, err := s.mountSource(ctx, st, m)
		if err != nil {
			return nil, fmt.Errorf("--mount: target %s: %w", m.Target, err)
		}
		out[m.Number] = src
		if src.selection != nil && src.snap == nil {
			for _, w := range src.selection.Warnings() {
				st.remark(w)
			}
		}
	}

	return out, nil
}

// mountSource finds the source of one mount: in a build context, a stage or an image.
func (s *stage) mountSource(ctx context.Context, st *step, m plan.Mount) (*mountSource, error) {
	src := &mountSource{path: path.Join("/", m.Source)}
	tree, err := s.build.inputs.tree(ctx, m.Files)
	switch {
	case err != nil:
		return nil, err
	case tree != nil:
		src.tree = tree
		return src, src.find(ctx, st)
	case m.Files == nil:
		return nil, errors.New("there is no build context to mount: give a directory, or a tar on standard input")
	}

	if src.snap, err = s.other(ctx, st, *m.Files); err != nil {
		return nil, err
	}
	if m.Files.Stage == nil || src.path == "/" {
		defer st.clock.pause()() // until the layers are stored
		src.digest, err = src.snap.identity(ctx)
		return src, err
	}
	if err := src.open(ctx, st); err != nil {
		return nil, err
	}
	return src, src.find(ctx, st)
}

// open makes the files of the snapshot readable.
func (src *mountSource) open(ctx context.Context, st *step) error {
	if src.tree != nil {
		return nil
	}
	root, err := st.view(ctx, src.snap)
	if err != nil {
		return err
	}
	src.tree = copier.OpenRoot(root)
	return nil
}

// find digests the source.
func (src *mountSource) find(ctx context.Context, st *step) (err error) {
	if src.selection, err = copier.SelectPath(ctx, src.tree, src.path); err != nil {
		return err
	}
	st.atEnd(src.selection.Close)
	src.digest = src.selection.Digest().String()
	return nil
}

// identity is a digest of the layers: of the files, whoever made them.
func (s *snapshot) identity(ctx context.Context) (string, error) {
	layers, err := s.stored(ctx)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	for _, l := range layers {
		fmt.Fprintln(sum, l.DiffID)
	}
	return "layers:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// content is the part of the sources in the key of the step. The rest of the mounts is in the instruction.
func (m mountSources) content() []string {
	var out []string
	for _, n := range slices.Sorted(maps.Keys(m)) {
		out = append(out, "mount "+strconv.Itoa(n)+" "+m[n].digest)
	}
	return out
}

// checkUnchanged compares the parts of build contexts that were mounted in place with their digests. If a file was edited
// meanwhile, the result of the step belongs to no digest and gets no key.
func (m mountSources) checkUnchanged(ctx context.Context, st *step) error {
	for _, n := range slices.Sorted(maps.Keys(m)) {
		src := m[n]
		if !src.live {
			continue
		}

		changed, err := src.selection.Changed(ctx)
		if err != nil {
			return fmt.Errorf("--mount: source %s: %w", src.path, err)
		}
		if changed != "" {
			st.show.warnAt(st.Step, fmt.Sprintf("%s in the build context changed while the step ran. "+
				"The image has what the step made of it, and the build cache does not: the step runs again next time", changed))
			st.unkeyed = true
		}
	}

	return nil
}

// mounts translates the mounts of a RUN.
func (b *build) mounts(st *step, op *plan.Run, sources mountSources) ([]runner.Mount, error) {
	var out []runner.Mount
	for _, m := range op.Mounts {
		attributes := runner.FileAttributes{Mode: m.Mode, UID: m.UID, GID: m.GID}
		mount := runner.Mount{Target: m.Target, Number: m.Number, ReadOnly: m.ReadOnly, Attributes: m.Attributes}
		switch m.Type {
		case instructions.MountBind:
			bind, err := b.bind(st, sources[m.Number])
			if err != nil {
				return nil, err
			}
			mount.Source = bind
		case instructions.MountCache:
			mount.Source = cacheMount(st, m, attributes, sources[m.Number])
		case instructions.MountTmpfs:
			mount.Source = runner.Tmpfs{Size: m.Size, Mode: m.Mode}
		case instructions.MountSecret:
			mount.Source = runner.Secret{ID: m.ID, Env: m.Env, Required: m.Required, FileAttributes: attributes}
		case instructions.MountSSH:
			mount.Source = runner.SSH{ID: m.ID, Required: m.Required, FileAttributes: attributes}
		}
		out = append(out, mount)
	}
	return out, nil
}

// bind translates the source of a bind mount: a part of a stage, of an image or of the build context.
func (b *build) bind(st *step, src *mountSource) (runner.Bind, error) {
	if src.snap == nil {
		return b.bindContext(src), nil
	}

	st.reads.Add(src.snap.files)
	mount, err := src.snap.files.Mount()
	if err != nil {
		return runner.Bind{}, err
	}
	bind := runner.Bind{Name: src.path, Tree: runner.Tree{Lowers: mount.Lowers, Path: src.path}}
	if src.selection != nil {
		bind.Tree.Path = src.selection.Path()
	}
	return bind, nil
}

// errNotAsItIs says that files of the context have to be copied to be seen as COPY would give them.
var errNotAsItIs = errors.New("the context has other owners or modes than the image would")

// bindContext shows the user's directory below an upper directory with whiteouts for the files that the ignore file
// excludes, or a copy.
func (b *build) bindContext(src *mountSource) runner.Bind {
	from := src.tree.Root()
	src.live = true
	inPlace := runner.Tree{
		Lowers: []string{descriptorPath(from)}, Path: src.selection.Path(),
		Prepare: func(upper *os.File) error {
			attributes, err := fdfs.FileStat(from)
			if err != nil {
				return err
			}
			same, err := src.selection.Hide(upper)
			if err == nil && !same {
				err = errNotAsItIs
			}
			return errors.Join(err, fdfs.Chmod(upper, attributes.Mode))
		},
	}

	fallback := func(ctx context.Context) (runner.Tree, error) {
		src.live = false
		dir, err := b.contextCopy(src.selection.Digest(), func(dir string) error {
			to, err := os.Open(dir)
			if err != nil {
				return err
			}
			return errors.Join(src.selection.Materialize(ctx, fdfs.OnDisk(to)), to.Close())
		})
		return runner.Tree{Lowers: []string{dir}, Path: copier.ShownName, Prepare: func(*os.File) error { return nil }}, err
	}
	return runner.Bind{Name: src.path, Tree: inPlace, Fallback: fallback}
}

func descriptorPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// cacheMount translates a cache mount.
func cacheMount(st *step, m plan.Mount, attributes runner.FileAttributes, src *mountSource) runner.Cache {
	c := runner.Cache{ID: m.ID, FileAttributes: attributes}
	switch m.Sharing {
	case instructions.SharingPrivate:
		c.Sharing = runner.PrivateCopies
	case instructions.SharingLocked:
		c.Sharing = runner.Locked
	}
	if src == nil {
		return c
	}

	c.Content = &runner.CacheContent{Digest: src.digest, Path: src.path, Pour: func(ctx context.Context, dir *os.File) error {
		if err := src.pour(ctx, st, dir); err != nil {
			return err
		}
		// The cache gets its name when this returns, and keeps the files for all later builds.
		return st.reads.Settle()
	}}
	return c
}

// pour copies the source to a directory.
func (src *mountSource) pour(ctx context.Context, st *step, dir *os.File) error {
	if src.selection != nil {
		return src.selection.Pour(ctx, fdfs.OnDisk(dir))
	}
	if err := src.open(ctx, st); err != nil {
		return err
	}

	selection, err := copier.SelectPath(ctx, src.tree, src.path)
	if err != nil {
		return err
	}
	for _, w := range selection.Warnings() {
		st.remark(fmt.Sprintf("--mount: cache from %s: %s", src.path, w))
	}
	return errors.Join(selection.Pour(ctx, fdfs.OnDisk(dir)), selection.Close())
}
