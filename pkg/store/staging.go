package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	cs "go.podman.io/storage"
	graphdriver "go.podman.io/storage/drivers"
	"go.podman.io/storage/pkg/archive"
	"go.podman.io/storage/pkg/stringid"

	"codeberg.org/rbuild/rbuild/pkg/internal/linux"
)

// Staging is a directory of the store that becomes a layer without being copied, or is discarded. It is protected by
// a lock of its own: a process that dies leaves it to the next Close. Apply or Discard ends it.
//
// The library hands such a directory out only for the duration of a callback (its Differ); Staging turns that round,
// so that a build can hold several.
type Staging struct {
	Upper string // the layer's content to be: an overlay upper directory, or any tree
	Dir   string // Upper's parent, on the same file system: scratch space that is removed with the Staging

	store    *Store
	content  chan *Content // nil: discard
	prepared chan prepared
	ended    bool
}

// Content describes what a Staging's Upper holds when it is complete.
type Content struct {
	DiffID   digest.Digest
	Size     int64       // bytes of the uncompressed tar
	TarSplit *os.File    // the tar-split stream of the tar; owned by Apply from then on
	RootMode os.FileMode // permission bits of the layer's root directory
}

type prepared struct {
	output *graphdriver.DriverWithDifferOutput
	err    error
}

var errDiscarded = errors.New("staging directory discarded")

// stagingTries is how often a staging directory is made that another process removes at once, and stagingPause how long
// that is given to go on in between.
const (
	stagingTries = 20
	stagingPause = time.Millisecond
)

// NewStaging makes an empty staging directory.
func (s *Store) NewStaging() (st *Staging, err error) {
	for range stagingTries {
		if st, err = s.newStaging(); err == nil && st.whole() {
			return st, nil
		}
		if err == nil {
			err = st.Discard()
		}
		if linux.NoRoom(err) {
			return nil, err
		}
		time.Sleep(stagingPause)
	}
	const text = "making a staging directory in the store: another process keeps removing it"
	if err == nil {
		return nil, errors.New(text)
	}
	return nil, fmt.Errorf("%s: %w", text, err)
}

// whole says whether the directory and its lock are there. The library makes the directory first and locks it a moment
// later; whoever sweeps the store in between takes it for one that a dead process left.
func (st *Staging) whole() bool {
	for _, path := range []string{st.Upper, filepath.Join(st.Dir, stagingLock)} {
		if _, err := os.Lstat(path); err != nil {
			return false
		}
	}
	return true
}

func (s *Store) newStaging() (*Staging, error) {
	st := &Staging{store: s, content: make(chan *Content, 1), prepared: make(chan prepared, 1)}
	ready := make(chan struct{})
	go func() {
		out, err := s.storage.PrepareStagedLayer(&graphdriver.ApplyDiffWithDifferOpts{}, &differ{st, ready})
		st.prepared <- prepared{out, err}
	}()
	select {
	case <-ready:
		return st, nil
	case p := <-st.prepared:
		st.ended = true
		return nil, fmt.Errorf("making a staging directory in the store: %w", errors.Join(p.err, s.cleanup(p.output)))
	}
}

// Apply makes the directory a layer above parent ("": none), known by names if any, and ends the Staging. The
// directory is renamed into place: whoever has it mounted, as an overlay's lower, keeps it.
// Of two processes that bring the same name, the first has it; the second's layer is stored without.
func (st *Staging) Apply(c Content, parent string, names ...string) (Layer, error) {
	st.ended = true
	st.content <- &c
	p := <-st.prepared
	if p.err != nil {
		return Layer{}, errors.Join(p.err, st.store.cleanup(p.output))
	}
	l, err := st.apply(p.output, parent, names)
	// The directory itself has moved; what stood beside it, and its lock, go now.
	if err := errors.Join(err, st.store.cleanup(p.output)); err != nil {
		return Layer{}, fmt.Errorf("storing a layer: %w", err)
	}
	return fromLibrary(l), nil
}

// apply hands the layer to the library, which closes the tar-split in any case.
func (st *Staging) apply(out *graphdriver.DriverWithDifferOutput, parent string, names []string) (*cs.Layer, error) {
	args := cs.ApplyStagedLayerOptions{
		ID: stringid.GenerateRandomID(), ParentLayer: parent, Names: names,
		DiffOutput: out, DiffOptions: &graphdriver.ApplyDiffWithDifferOpts{},
	}
	out.Metadata = madeByUs
	if len(names) == 0 {
		return st.store.storage.ApplyStagedLayer(args)
	}
	again, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", out.TarSplit.Fd()))
	if err != nil {
		return nil, err
	}
	l, err := st.store.storage.ApplyStagedLayer(args)
	if !errors.Is(err, cs.ErrDuplicateName) {
		return l, errors.Join(err, again.Close())
	}
	args.Names, out.TarSplit = nil, again
	return st.store.storage.ApplyStagedLayer(args)
}

// Discard removes the directory and what is beside it. After Apply or Discard it does nothing.
func (st *Staging) Discard() error {
	if st.ended {
		return nil
	}
	st.ended = true
	st.content <- nil
	p := <-st.prepared
	if err := st.store.cleanup(p.output); err != nil {
		return fmt.Errorf("removing a staging directory: %w", err)
	}
	return nil
}

// cleanup removes a staging directory, and closes its tar-split.
func (s *Store) cleanup(out *graphdriver.DriverWithDifferOutput) error {
	if out == nil || out.Target == "" {
		return nil
	}
	err := s.storage.CleanupStagedLayer(out)
	for range stagingTries {
		if !errors.Is(err, fs.ErrExist) { // ENOTEMPTY: another process's sweep has just made a lock file in it
			return err
		}
		err = os.RemoveAll(filepath.Dir(out.Target))
	}
	return err
}

// differ is the callback within which the library keeps a staging directory locked.
type differ struct {
	st    *Staging
	ready chan<- struct{}
}

// ApplyDiff lends the directory to the Staging until its content is described or it is given up.
func (d *differ) ApplyDiff(dest string, _ *archive.TarOptions, _ *graphdriver.DifferOptions) (graphdriver.DriverWithDifferOutput, error) {
	d.st.Upper, d.st.Dir = dest, filepath.Dir(dest)
	close(d.ready)
	c := <-d.st.content
	if c == nil {
		return graphdriver.DriverWithDifferOutput{}, errDiscarded
	}
	return graphdriver.DriverWithDifferOutput{
		Differ: d, Size: c.Size, UncompressedDigest: c.DiffID, TarSplit: c.TarSplit, RootDirMode: &c.RootMode,
	}, nil
}

// Close is part of the library's interface.
func (d *differ) Close() error { return nil }
