package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"

	"codeberg.org/rbuild/rbuild/internal/archive"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/pkg/commit"
	overlayfs "codeberg.org/rbuild/rbuild/pkg/overlay"
)

// stack implements rootfs.Stack by the directories of its layers. Each directory is pinned by a descriptor from the
// moment it is added, so that a directory that the store moves is still the directory that is mounted.
type stack struct {
	backend *Backend
	dirs    []*os.File    // lowest first
	bottom  int           // how many of the first dirs are no layers
	layers  []*rootfs.Job // of the other dirs
	cloned  atomic.Bool   // no layer can be added any more
}

// pin puts a directory on top.
func (s *stack) pin(dir string) error {
	if s.cloned.Load() {
		return rootfs.ErrCloned
	}
	if len(s.dirs) >= MaxLayers {
		return fmt.Errorf("the image would have more than %d layers, which overlayfs cannot stack: "+
			"join RUN instructions, or build its base with --layers=false", MaxLayers)
	}

	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("opening a layer: %w", err)
	}

	s.dirs = append(s.dirs, f)
	s.backend.mu.Lock()
	defer s.backend.mu.Unlock()
	s.backend.dirs = append(s.backend.dirs, f)
	return nil
}

// lowers are the directories as overlayfs takes them, topmost first.
func (s *stack) lowers() []string {
	out := make([]string, 0, len(s.dirs))
	for _, d := range slices.Backward(s.dirs) {
		out = append(out, fmt.Sprintf("/proc/self/fd/%d", d.Fd()))
	}
	return out
}

func (s *stack) Mount() (overlayfs.Mount, error) {
	return overlayfs.Mount{Lowers: s.lowers(), Trusted: s.backend.o.Trusted}, nil
}

func (s *stack) View(context.Context) (fdfs.Dir, error) {
	m, err := s.Mount()
	if err != nil {
		return nil, err
	}
	return open(m)
}

// open opens the root directory of a mount.
func open(m overlayfs.Mount) (fdfs.Dir, error) {
	root, err := overlayfs.Open(m)
	if err != nil {
		return nil, err
	}
	return fdfs.OnDisk(root), nil
}

func (s *stack) Guard() rootfs.Guard { return s }

func (s *stack) Layers() []*rootfs.Job { return s.layers }

func (s *stack) Clone() rootfs.Stack {
	s.cloned.Store(true)
	return &stack{backend: s.backend, dirs: slices.Clone(s.dirs), bottom: s.bottom, layers: slices.Clone(s.layers)}
}

func (s *stack) Push(_ context.Context, l commit.Layer) error {
	dir, err := s.backend.store.Directory(l.ID)
	if err != nil {
		return err
	}
	if err := s.pin(dir); err != nil {
		return err
	}

	s.layers = append(s.layers, rootfs.Stored(l))
	return nil
}

// top is the topmost layer.
func (s *stack) top() *rootfs.Job {
	if len(s.layers) == 0 {
		return rootfs.Stored(commit.Layer{})
	}
	return s.layers[len(s.layers)-1]
}

// shape gives a new upper directory the attributes of the root directory below it: an overlay shows the attributes of the
// topmost root directory.
func (s *stack) shape(upper string) error {
	below, err := s.rootAttributes()
	if err != nil {
		return err
	}

	dir, err := os.Open(upper)
	if err != nil {
		return err
	}

	err = dir.Chown(int(below.UID), int(below.GID))
	return errors.Join(err, fdfs.Chmod(dir, below.Mode), dir.Close())
}

// rootAttributes are those of the root directory that the stack shows.
func (s *stack) rootAttributes() (commit.RootDir, error) {
	st, err := fdfs.FileStat(s.dirs[len(s.dirs)-1])
	return commit.RootDir{Mode: st.Mode, UID: st.UID, GID: st.GID}, err
}

func (s *stack) Tar(ctx context.Context, w io.Writer, o commit.TarOptions) (commit.Tar, error) {
	root, err := overlayfs.Open(overlayfs.Mount{Lowers: s.lowers(), Trusted: s.backend.o.Trusted})
	if err != nil {
		return commit.Tar{}, err
	}

	o.Merged = true
	r, err := commit.WriteTar(ctx, root, w, o)
	return r, errors.Join(err, root.Close())
}

// Flatten writes the tar of all files into a staging directory while it is digested.
func (s *stack) Flatten(ctx context.Context, o rootfs.FlattenOptions) (l commit.Layer, err error) {
	staging, err := s.backend.store.NewStaging()
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, staging.Discard()) }()

	if err := s.shape(staging.Upper); err != nil {
		return l, err
	}

	tarSplit, err := fdfs.Memfd("tar-split")
	if err != nil {
		return l, err
	}

	w := o.Options()
	w.TarSplit = tarSplit
	r, err := rootfs.Pipe(ctx, s, w, func(ctx context.Context, r io.Reader) error {
		dir, err := os.Open(staging.Upper)
		if err != nil {
			return err
		}
		return errors.Join(archive.ExtractImage(ctx, r, dir), dir.Close())
	})

	if o.Check != nil { // a removed layer is the cause of an error, too
		if removed := o.Check(); removed != nil {
			err = removed
		}
	}
	if err != nil {
		return l, errors.Join(err, tarSplit.Close())
	}

	content := containers.Content{DiffID: r.DiffID, Size: r.Size, TarSplit: tarSplit, RootMode: r.RootMode}
	if o.Notes != nil {
		content.Notes = o.Notes(r)
	}
	return staging.Commit(content, "", o.Name)
}
