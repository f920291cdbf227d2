package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/pkg/commit"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

// reads returns the directories of snapshots, and reports afterwards whether their layers were in the store all the time.
// Any tool may remove an image while a build reads its files. The library then empties the directories of its layers, also
// under a mounted overlay and for open descriptors. So all files of a snapshot are read through a reads. A result of these
// files gets a name, a record or an exit status of 0 only after check or settle has returned nil.
//
// Two mechanisms prevent a wrong result. A hold keeps the layers in the store while the build reads them (store.Hold). The
// check finds a layer that was removed before its hold was made, or by force.
type reads struct {
	*builder
	snaps   []*snapshot
	holding bool
}

// add remembers a snapshot that is about to be read.
func (r *reads) add(s *snapshot) {
	if s.memory != nil || slices.Contains(r.snaps, s) { // blobs of a build without a namespace are never removed
		return
	}
	r.snaps = append(r.snaps, s)
	if r.holding {
		r.holdLayers(s)
	}
}

// lowers are the directories of a snapshot as overlayfs takes them, topmost first.
func (r *reads) lowers(s *snapshot) []string {
	r.add(s)
	return s.root.lowers()
}

// open returns the root directory of the snapshot's files, read-only, below the directories over. The caller closes it.
func (r *reads) open(s *snapshot, over ...string) (*os.File, error) {
	return overlay.Open(overlay.Mount{Lowers: append(over, r.lowers(s)...), Trusted: r.Trusted})
}

// check returns an error if a layer of the snapshots was removed while files were read. It writes nothing.
func (r *reads) check() error {
	for _, s := range r.snaps {
		if err := r.intactBelow(s, len(s.layers))(); err != nil {
			return err
		}
	}
	return nil
}

// hold starts to hold the snapshots, those to come too, in the background.
func (r *reads) hold() {
	r.holding = true
	for _, s := range r.snaps {
		r.holdLayers(s)
	}
}

// settle waits for the holds of the snapshots and then does what check does. After it the layers stay until the build ends.
func (r *reads) settle() error {
	for _, s := range r.snaps {
		if h := r.holdLayers(s); h != nil {
			if <-h.done; errors.Is(h.err, containers.ErrNoLayer) {
				return errRemoved(h.layer)
			} else if h.err != nil {
				return h.err
			}
		}
	}
	return r.check()
}

// hold is a store.Hold that is being made.
type hold struct {
	layer string // ID
	done  chan struct{}
	held  *containers.Hold
	err   error
}

// holdLayers holds the topmost layer that the build has found in the store, once for the build. Layers that the build
// has made itself lie above, and no image has them yet. Nil: there is nothing to hold.
func (b *builder) holdLayers(s *snapshot) *hold {
	var top commit.Layer
	for _, job := range s.layers {
		if l, found := job.Found(); found {
			top = l
		}
	}

	if top.ID == "" {
		return nil
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	if h, ok := b.holds[top.ID]; ok {
		return h
	}

	h := &hold{layer: top.ID, done: make(chan struct{})}
	b.holds[top.ID] = h
	b.background.Go(func() {
		defer close(h.done)
		h.held, h.err = b.Store.Hold(top.ID)
	})

	return h
}

// releaseHolds ends the holds. Nothing runs in the background any more.
func (b *builder) releaseHolds() {
	for _, h := range b.holds {
		if h.held == nil {
			continue
		}
		if err := h.held.Release(); err != nil {
			b.warn(fmt.Sprintf("%v", err))
		}
	}
}

// intactBelow returns the check for the lowest n layers of a snapshot, to be called later: it reports whether the
// directories that the build has pinned are still the layers of the store.
func (b *builder) intactBelow(s *snapshot, n int) func() error {
	if s.memory != nil {
		return func() error { return nil }
	}

	dirs, layers := s.root.dirs[s.root.bottom:], s.layers[:n]
	return func() error {
		top := "" // the topmost layer that the build has found in the store
		for i, job := range layers {
			select {
			case <-job.Done():
			default:
				return b.recorded(top) // not stored yet, so nobody knows of it or of those above
			}
			l, err := job.Wait(b.interrupt)
			if err != nil {
				return err
			}
			if err := b.sameDirectory(dirs[i], l.ID); err != nil {
				return err
			}
			if _, found := job.Found(); found {
				top = l.ID
			}
		}

		return b.recorded(top)
	}
}

// recorded asks for the record of a layer. Podman 4 empties a layer's directory before the directory itself goes, under
// the library's lock: the look-up waits for the end of that. The layers below have theirs as long as the layer has one.
// A layer that is held has its record; and the look-up would read the records of all layers again after each commit.
func (b *builder) recorded(id string) error {
	if id == "" || b.isHeld(id) {
		return nil
	}
	_, ok, err := b.Store.LayerByName(id)
	if err == nil && !ok {
		err = errRemoved(id)
	}
	return err
}

// isHeld reports whether the build has made its hold of a layer.
func (b *builder) isHeld(id string) bool {
	b.mu.Lock()
	h := b.holds[id]
	b.mu.Unlock()
	if h == nil {
		return false
	}
	select {
	case <-h.done:
		return h.err == nil
	default:
		return false
	}
}

// sameDirectory reports whether the directory of the layer id is the one that the build has pinned.
func (b *builder) sameDirectory(pinned *os.File, id string) error {
	path, err := b.Store.Directory(id)
	var now os.FileInfo
	if err == nil {
		now, err = os.Stat(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return errRemoved(id)
	}
	if err != nil {
		return err
	}

	then, err := pinned.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(then, now) {
		return errRemoved(id) // and made again
	}

	return nil
}

// errRemoved says that a layer is gone that the build has read.
func errRemoved(id string) error {
	return fmt.Errorf("layer %.12s, which the step reads, was removed while the build ran: build again", id)
}
