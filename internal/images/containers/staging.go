package containers

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	cs "go.podman.io/storage"
	graphdriver "go.podman.io/storage/drivers"
	"go.podman.io/storage/pkg/stringid"

	"codeberg.org/rbuild/rbuild/internal/lease"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// Staging is a directory of the store that becomes a layer without being copied, or is discarded.
// It is protected by a lock of its own: a process that dies leaves it to the next Close. Commit or
// Discard ends it.
//
// The library would lend such directories too (PrepareStagedLayer), below overlay/staging; but
// podman 4 empties that at the end of every command, whoever works in it. Here they lie beside the
// library's own temporary directories, which older versions do not know and newer ones tell by
// other names, and below overlay, which the library makes a mount: a directory cannot be renamed
// into that from outside.
type Staging struct {
	Upper string // the layer's content to be: an overlay upper directory, or any tree
	Dir   string // Upper's parent, on the same file system: scratch space that is removed with the Staging

	store *LayerStore
	lease *lease.Lease
}

// stagingPrefix begins the names of staging directories.
const stagingPrefix = "rbuild-"

// stagingLock is the name of the lock file in a staging directory. The library uses the same name
// and the same kind of lock in the directories of overlay/staging.
const stagingLock = lease.Inside("staging.lock")

// NewStaging makes an empty staging directory.
func (s *LayerStore) NewStaging() (*Staging, error) {
	st, err := s.makeStaging()
	if err != nil {
		return nil, fmt.Errorf("making a staging directory in the store: %w", err)
	}
	return st, nil
}

func (s *LayerStore) makeStaging() (*Staging, error) {
	root := stagingRoot(s.storage.GraphRoot())
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}

	l, err := lease.New(stagingLock, root, stagingPrefix)
	if err != nil {
		return nil, err
	}

	st := &Staging{store: s, lease: l, Dir: l.Path(), Upper: filepath.Join(l.Path(), "dir")}
	if err := os.Mkdir(st.Upper, 0o555); err != nil { // the mode that the library gives to directories of layers
		return nil, errors.Join(err, l.Release())
	}
	return st, nil
}

// Content describes the directory of a Staging.
type Content struct {
	DiffID   digest.Digest // digest of the uncompressed tar
	Size     int64         // bytes of the uncompressed tar
	TarSplit *os.File      // the tar-split record; the store closes the file
	RootMode os.FileMode   // permissions of the directory itself
	Notes    []byte        // data that the store keeps with the layer; nil: none
}

// Directory returns Upper.
func (st *Staging) Directory() string { return st.Upper }

// Commit makes the directory a layer above parent ("": none), gives the layer the name ("": none)
// and ends the Staging. The directory is renamed into place, so an overlay that has it mounted as a
// lower directory keeps working.
//
// If another layer has the name, of another build or of a layer that had to be made again, the
// newest layer gets it. So a layer that nothing can be stacked on any more does not keep its name
// for ever.
func (st *Staging) Commit(c Content, parent, name string) (commit.Layer, error) {
	if name == "" {
		l, err := st.insert(c, parent)
		return l.Layer, err
	}
	l, err := st.insert(c, parent, name)
	if err != nil || slices.Contains(l.Names, name) {
		return l.Layer, err
	}
	return l.Layer, st.store.NameLayer(l.ID, name)
}

// insert is Commit with names that the layer gets only if no other layer has them.
func (st *Staging) insert(c Content, parent string, names ...string) (Layer, error) {
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

// Discard removes the directory and what is beside it. After Commit or Discard it does nothing.
func (st *Staging) Discard() error {
	if err := st.lease.Release(); err != nil {
		return fmt.Errorf("removing a staging directory: %w", err)
	}
	return nil
}

// sweep removes the directories of root whose names begin with prefix and whose process is dead.
func sweep(root, prefix string) error {
	err := lease.Reap(stagingLock, root, func(name string) bool { return strings.HasPrefix(name, prefix) })
	if err != nil {
		return fmt.Errorf("removing what an interrupted build left: %w", err)
	}
	return nil
}
