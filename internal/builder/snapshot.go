package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"codeberg.org/rbuild/rbuild/internal/cache"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/pkg/commit"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// snapshot is what a stage has made up to some step: files, config and the key that identifies both. A stage starts
// from a clone of its base's.
type snapshot struct {
	root   *root
	memory *memoryFiles  // in place of root; nil: there is one
	layers []*commit.Job // lowest first; some may still be on their way
	key    cache.Key
	config instructions.Image // with the base's history, made to agree with its layers
	args   *plan.Args         // build arguments at the end of the stage; nil: the snapshot is an image
	// annotations are those of the base image's manifest.
	annotations map[string]string
	base        Base       // the image at the bottom of it
	origin      *baseImage // the image that the snapshot is; nil: a step has been done, or there was no image
}

// baseImage is an image as a build found it.
type baseImage struct {
	id     string
	config instructions.Image
}

// top is the topmost layer.
func (s *snapshot) top() *commit.Job {
	if len(s.layers) == 0 {
		return commit.Stored(commit.Layer{})
	}
	return s.layers[len(s.layers)-1]
}

// clone shares the files and copies the lists.
func (s *snapshot) clone(b *builder) *snapshot {
	c := &snapshot{
		layers: slices.Clone(s.layers), config: s.config, args: s.args, annotations: s.annotations, base: s.base, origin: s.origin,
	}
	if s.memory != nil {
		c.memory = s.memory.clone()
		return c
	}
	c.root, c.key = s.root.clone(b), s.key
	return c
}

// stored waits until every layer is in the store.
func (s *snapshot) stored(ctx context.Context) ([]commit.Layer, error) {
	layers := make([]commit.Layer, 0, len(s.layers))
	for _, j := range s.layers {
		l, err := j.Wait(ctx)
		if err != nil {
			return nil, err
		}
		layers = append(layers, l)
	}
	return layers, nil
}

// emptySnapshot is scratch: no layers and no config.
func (b *builder) emptySnapshot() (*snapshot, error) {
	if b.Plain != nil {
		return &snapshot{memory: b.emptyFiles()}, nil
	}
	s := &snapshot{root: b.newRoot(), key: cache.ForBase("")}
	return s, s.pushBottom(b)
}

// pushBottom gives a snapshot without layers an empty directory, because an overlay mount needs a lower directory.
func (s *snapshot) pushBottom(b *builder) error {
	s.root.bottom = 1
	return s.root.push(b.scratch.Upper)
}

// openImage is the snapshot of an image of the store.
func (b *builder) openImage(ctx context.Context, id string) (*snapshot, error) {
	if b.Plain != nil {
		return b.plainImage(ctx, id)
	}
	s, err := b.openStored(id)
	if err != nil {
		if _, gone := b.Store.Image(id); errors.Is(gone, containers.ErrNoImage) {
			return nil, fmt.Errorf("image %.12s was removed while the build ran: build again", id)
		}
	}
	return s, err
}

func (b *builder) openStored(id string) (*snapshot, error) {
	img, err := b.Store.Image(id)
	if err != nil {
		return nil, err
	}

	chain, err := b.Store.Layers(img)
	if err != nil {
		return nil, err
	}

	dirs, err := b.Store.Directories(img.TopLayer)
	if err != nil {
		return nil, err
	}

	s := &snapshot{root: b.newRoot(), key: cache.ForBase(img.ConfigDigest.Encoded()), annotations: img.Annotations}
	if err := json.Unmarshal(img.Config, &s.config); err != nil {
		return nil, fmt.Errorf("reading the config of image %s: %w", id, err)
	}

	s.config.History = commit.History(s.config.History, len(chain))
	s.origin = &baseImage{id: img.ID, config: s.config}
	if len(dirs) == 0 {
		return s, s.pushBottom(b)
	}

	for _, dir := range slices.Backward(dirs) {
		if err := s.root.push(dir); err != nil {
			return nil, err
		}
	}

	for _, l := range chain {
		s.layers = append(s.layers, commit.Stored(l.Layer))
	}

	return s, nil
}

// root is the stack of directories that a snapshot's files are made of. Each is pinned by a descriptor from the moment
// it is pushed, so that a directory that the store moves is still the one that is mounted. A layer that another process
// removes is emptied, which no descriptor prevents: see reads.
type root struct {
	dirs   []*os.File // lowest first
	bottom int        // how many of the first dirs are no layers
	owned  int        // how many of the last dirs are this root's own to close
	view   *os.File   // the whole, read-only, as the stage has last looked at it; nil: not since the last push
}

// MaxLayers is how many lower directories an overlay can have (fs/overlayfs/params.h, OVL_MAX_STACK), less two for the
// mount points of RUN.
const MaxLayers = 498

func (b *builder) newRoot() *root {
	r := &root{}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.roots = append(b.roots, r)
	return r
}

func (r *root) clone(b *builder) *root {
	c := b.newRoot()
	c.dirs, c.bottom = slices.Clone(r.dirs), r.bottom
	return c
}

// push puts a directory on top.
func (r *root) push(dir string) error {
	if len(r.dirs) >= MaxLayers {
		return fmt.Errorf("the image would have more than %d layers, which overlayfs cannot stack: "+
			"join RUN instructions, or build its base with --layers=false", MaxLayers)
	}
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("opening a layer: %w", err)
	}
	r.dirs = append(r.dirs, f)
	r.owned++
	return r.dropView()
}

// shape gives a new upper directory the attributes of the root directory below it: in an overlay the topmost one's
// are those of the whole.
func (r *root) shape(upper string) error {
	below, err := r.attributes()
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

// attributes are those of the whole's root directory.
func (r *root) attributes() (commit.RootDir, error) {
	st, err := fdfs.FileStat(r.dirs[len(r.dirs)-1])
	return commit.RootDir{Mode: st.Mode, UID: st.UID, GID: st.GID}, err
}

// lowers are the directories as overlayfs takes them, topmost first.
func (r *root) lowers() []string {
	out := make([]string, 0, len(r.dirs))
	for _, d := range slices.Backward(r.dirs) {
		out = append(out, descriptorPath(d))
	}
	return out
}

func descriptorPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

func (r *root) dropView() error {
	if r.view == nil {
		return nil
	}
	view := r.view
	r.view = nil
	return view.Close()
}

func (r *root) close() {
	errs := []error{r.dropView()}
	for _, d := range r.dirs[len(r.dirs)-r.owned:] {
		errs = append(errs, d.Close())
	}
	_ = errors.Join(errs...) // descriptors that were only read through
}

// unfinished is the directory of the one layer of the stage, if there is something in it already.
func (s *stage) unfinished() []string {
	if s.single == nil {
		return nil
	}
	return []string{s.single.Upper}
}

// view returns the root directory of the stage's files as they stand, read-only. It belongs to the stage.
func (s *stage) view() (*os.File, error) {
	s.reads.add(s.snapshot)
	if s.root.view != nil && s.single == nil {
		return s.root.view, nil
	}
	if err := s.root.dropView(); err != nil {
		return nil, err
	}
	view, err := s.reads.open(s.snapshot, s.unfinished()...)
	s.root.view = view
	return view, err
}
