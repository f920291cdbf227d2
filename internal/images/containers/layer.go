package containers

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	cs "go.podman.io/storage"
	graphdriver "go.podman.io/storage/drivers"

	"codeberg.org/rbuild/rbuild/internal/bounded"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// madeByUs is the metadata of layers that a build made. Such a layer may be pruned at any age if no
// image has the layer.
const madeByUs = "rbuild"

// Layer is a layer of the store.
type Layer struct {
	commit.Layer
	Noted    bool // the layer has notes, see LayerStore.Notes
	ReadOnly bool // the layer is in an additional store, where layers get no names and no notes
}

// notesKey is the key of a layer's notes in the data that the library keeps beside the layer.
const notesKey = "rbuild-notes"

// LayerStore is the part of a [Store] that keeps layers: it finds them by name, gives their
// directories to overlays, and turns a directory into a layer. The methods may be called from
// several goroutines.
type LayerStore struct {
	storage cs.Store
	driver  graphdriver.DriverWithDiffer
	reserve reserve
	owner   string // name of this process's file below rbuild-owners; "": there is none
}

func fromLibrary(l *cs.Layer) Layer {
	return Layer{
		Layer: commit.Layer{
			ID: l.ID, Names: l.Names, Parent: l.Parent, DiffID: l.UncompressedDigest, Size: l.UncompressedSize, Created: l.Created,
		},
		Noted: slices.Contains(l.BigDataNames, notesKey), ReadOnly: l.ReadOnly,
	}
}

// Notes returns the notes that Content gave the layer id.
func (s *LayerStore) Notes(id string) ([]byte, error) {
	r, err := s.storage.LayerBigData(id, notesKey)
	if err != nil {
		return nil, fmt.Errorf("reading the notes of layer %s: %w", id, err)
	}
	data, err := bounded.ReadAll(r, maxNotes, "the item")
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("reading the notes of layer %s: %w", id, err)
	}
	return data, nil
}

// maxNotes bounds the notes of a layer, in bytes.
const maxNotes = 1 << 20

// CopyNotes copies the notes of the layer from to the layer to.
func (s *LayerStore) CopyNotes(from, to string) error {
	data, err := s.Notes(from)
	if err != nil {
		return err
	}
	if err := s.storage.SetLayerBigData(to, notesKey, bytes.NewReader(data)); err != nil {
		return fmt.Errorf("storing the notes of layer %s: %w", to, err)
	}
	return nil
}

// LayerByName returns the layer with this ID or name; ok is false if there is none. It waits while
// another process makes or removes a layer.
func (s *LayerStore) LayerByName(name string) (l Layer, ok bool, err error) {
	found, err := s.storage.Layer(name)
	if errors.Is(err, cs.ErrLayerUnknown) {
		return Layer{}, false, nil
	}
	if err != nil {
		return Layer{}, false, fmt.Errorf("looking up layer %s: %w", name, err)
	}
	return fromLibrary(found), true, nil
}

// Chain returns the layer id and its ancestors, lowest first. The empty id has no layers. A layer
// without a DiffID, which another tool has pulled in parts, is an error.
func (s *LayerStore) Chain(id string) ([]Layer, error) {
	chain, err := s.chain(id)
	if err != nil {
		return nil, err
	}
	for _, l := range slices.Backward(chain) {
		if l.DiffID == "" {
			return nil, fmt.Errorf("layer %s has no digest of its content: pull its image again", l.ID)
		}
	}
	return chain, nil
}

// chain is Chain with layers that have no DiffID.
func (s *LayerStore) chain(id string) ([]Layer, error) {
	var chain []Layer
	for id != "" {
		l, ok, err := s.LayerByName(id)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("layer %s is missing from the store: remove the image that needs it and pull it again", id)
		}
		chain = append(chain, l)
		id = l.Parent
	}
	slices.Reverse(chain)
	return chain, nil
}

// Directories returns the directories of the layer id and its ancestors, topmost first, as
// overlayfs takes them.
func (s *LayerStore) Directories(id string) ([]string, error) {
	if id == "" {
		return nil, nil
	}

	m, err := s.driver.Metadata(id)
	if err != nil {
		return nil, fmt.Errorf("reading layer %s: %w", id, err)
	}

	dirs := []string{m["UpperDir"]}
	if m["LowerDir"] != "" {
		dirs = append(dirs, strings.Split(m["LowerDir"], ":")...)
	}
	return dirs, nil
}

// Directory returns the directory of the layer id alone.
func (s *LayerStore) Directory(id string) (string, error) {
	dir, err := s.driver.DifferTarget(id)
	if err != nil {
		return "", fmt.Errorf("reading layer %s: %w", id, err)
	}
	return dir, nil
}

// NameLayer gives the layer id another name. A layer that had the name loses it. The build cache
// finds layers by their names.
func (s *LayerStore) NameLayer(id, name string) error {
	if err := s.storage.AddNames(id, []string{name}); err != nil {
		return fmt.Errorf("naming layer %s: %w", id, err)
	}
	return nil
}
