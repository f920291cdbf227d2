package containers

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	cs "go.podman.io/storage"
	graphdriver "go.podman.io/storage/drivers"
	"go.podman.io/storage/pkg/stringid"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// Staging is a directory of the store that becomes a layer without being copied, or is discarded. It is protected by
// a lock of its own: a process that dies leaves it to the next Close. Apply or Discard ends it.
//
// The library would lend such directories too (PrepareStagedLayer), below overlay/staging; but podman 4 empties that at the
// end of every command, whoever works in it. Here they lie beside the library's own temporary directories, which older
// versions do not know and newer ones tell by other names, and below overlay, which the library makes a mount: a
// directory cannot be renamed into that from outside.
type Staging struct {
	Upper string // the layer's content to be: an overlay upper directory, or any tree
	Dir   string // Upper's parent, on the same file system: scratch space that is removed with the Staging

	store *LayerStore
	lock  *os.File // nil: ended
}

// Content describes what a Staging's Upper holds when it is complete.
type Content struct {
	DiffID   digest.Digest
	Size     int64       // bytes of the uncompressed tar
	TarSplit *os.File    // the tar-split stream of the tar; owned by Apply from then on
	RootMode os.FileMode // permission bits of the layer's root directory
	Notes    []byte      // what Store.Notes returns for the layer; nil: it has none
}

// stagingTries is how often a staging directory is made that another process removes at once, and stagingPause how long
// that is given to go on in between.
const (
	stagingTries = 20
	stagingPause = time.Millisecond
)

// stagingPrefix begins the names of staging directories.
const stagingPrefix = "rbuild-"

// NewStaging makes an empty staging directory.
func (s *LayerStore) NewStaging() (*Staging, error) {
	root := stagingRoot(s.storage.GraphRoot())
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("making a staging directory in the store: %w", err)
	}

	for range stagingTries {
		dir := filepath.Join(root, stagingPrefix+rand.Text())
		st := &Staging{store: s, Dir: dir, Upper: filepath.Join(dir, "dir")}
		err := st.make()
		if err == nil {
			return st, nil
		}

		if st.lock != nil {
			err = errors.Join(err, st.lock.Close())
		}
		switch {
		case errors.Is(err, errTaken), errors.Is(err, fs.ErrNotExist):
			time.Sleep(stagingPause)
		default:
			return nil, fmt.Errorf("making a staging directory in the store: %w", errors.Join(err, os.RemoveAll(dir)))
		}
	}

	return nil, errors.New("making a staging directory in the store: another process keeps removing it")
}

// errTaken says that another process takes a staging directory, which has just been made, for one that a dead one left.
var errTaken = errors.New("taken by another process")

// make makes the directory and locks it. Whoever sweeps the store in between takes it for one that a dead process left.
func (st *Staging) make() (err error) {
	if err := os.Mkdir(st.Dir, 0o700); err != nil {
		return err
	}
	if st.lock, err = os.OpenFile(filepath.Join(st.Dir, stagingLock), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if free, err := fdfs.TryLock(st.lock); err != nil || !free {
		return errors.Join(err, errTaken)
	}
	if !fdfs.Linked(st.lock) {
		return errTaken
	}
	return os.Mkdir(st.Upper, 0o555) // as the library has it
}

// Apply makes the directory a layer above parent ("": none), known by names if any, and ends the Staging. The
// directory is renamed into place: whoever has it mounted, as an overlay's lower, keeps it.
// Of two processes that bring the same name, the first has it; the second's layer is stored without.
func (st *Staging) Apply(c Content, parent string, names ...string) (Layer, error) {
	l, err := st.apply(c.Notes, &graphdriver.DriverWithDifferOutput{
		Target: st.Upper, Size: c.Size, UncompressedDigest: c.DiffID, TarSplit: c.TarSplit, RootDirMode: &c.RootMode, Metadata: madeByUs,
	}, parent, names)

	// The directory itself has moved; what stood beside it, and its lock, go now.
	if err := errors.Join(err, st.Discard()); err != nil {
		return Layer{}, fmt.Errorf("storing a layer: %w", err)
	}
	return fromLibrary(l), nil
}

// apply hands the layer to the library, which closes the tar-split in any case.
func (st *Staging) apply(notes []byte, out *graphdriver.DriverWithDifferOutput, parent string, names []string) (*cs.Layer, error) {
	args := cs.ApplyStagedLayerOptions{
		ID: stringid.GenerateRandomID(), ParentLayer: parent, Names: names, LayerOptions: layerOptions(notes),
		DiffOutput: out, DiffOptions: &graphdriver.ApplyDiffWithDifferOpts{},
	}

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

	args.Names, args.LayerOptions, out.TarSplit = nil, layerOptions(notes), again
	return st.store.storage.ApplyStagedLayer(args)
}

// layerOptions tells the library to keep notes with a layer.
func layerOptions(notes []byte) *cs.LayerOptions {
	if notes == nil {
		return nil
	}
	return &cs.LayerOptions{BigData: []cs.LayerBigDataOption{{Key: notesKey, Data: bytes.NewReader(notes)}}}
}

// Discard removes the directory and what is beside it. After Apply or Discard it does nothing.
func (st *Staging) Discard() error {
	if st.lock == nil {
		return nil
	}
	err := removeStaging(st.Dir)
	err = errors.Join(err, st.lock.Close())
	st.lock = nil
	if err != nil {
		return fmt.Errorf("removing a staging directory: %w", err)
	}
	return nil
}
