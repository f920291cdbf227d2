package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// hold is a containers.Hold that is being made.
type hold struct {
	layer string // ID
	done  chan struct{}
	held  *containers.Hold
	err   error
}

// Hold holds the layers in the background.
func (s *stack) Hold() { s.hold() }

// Held waits for the hold.
func (s *stack) Held() error {
	h := s.hold()
	if h == nil {
		return nil
	}

	<-h.done
	if errors.Is(h.err, containers.ErrNoLayer) {
		return errRemoved(h.layer)
	}
	return h.err
}

// hold holds the topmost layer that the build has found in the store, once for the build. Layers that the build has made
// itself lie above, and no image has them yet. Nil: there is nothing to hold.
func (s *stack) hold() *hold {
	var top commit.Layer
	for _, job := range s.layers {
		if l, found := job.Found(); found {
			top = l
		}
	}

	if top.ID == "" {
		return nil
	}

	b := s.backend
	b.mu.Lock()
	defer b.mu.Unlock()
	if h, ok := b.holds[top.ID]; ok {
		return h
	}

	h := &hold{layer: top.ID, done: make(chan struct{})}
	b.holds[top.ID] = h
	b.background.Go(func() {
		defer close(h.done)
		h.held, h.err = b.store.Hold(top.ID)
	})

	return h
}

// releaseHolds ends the holds. Nothing runs in the background any more.
func (b *Backend) releaseHolds() {
	for _, h := range b.holds {
		if h.held == nil {
			continue
		}
		if err := h.held.Release(); err != nil {
			b.o.Warn(fmt.Sprintf("%v", err))
		}
	}
}

// Check compares the directories of the stack with the layers of the store.
func (s *stack) Check() error { return s.intactBelow(context.Background(), s.layers)() }

// intactBelow returns the check for the lowest layers of the stack, to be called later: it reports whether the directories
// that the build has pinned are still the layers of the store.
func (s *stack) intactBelow(ctx context.Context, layers []*rootfs.Job) func() error {
	b, dirs := s.backend, s.dirs[s.bottom:]
	return func() error {
		top := "" // the topmost layer that the build has found in the store
		for i, job := range layers {
			select {
			case <-job.Done():
			default:
				return b.recorded(top) // not stored yet, so nobody knows of it or of the layers above
			}

			l, err := job.Wait(ctx)
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
// the library's lock: the look-up waits for the end of that. The layers below have their records as long as the layer has
// its own. A layer that is held has its record; and the look-up would read the records of all layers again after each
// commit.
func (b *Backend) recorded(id string) error {
	if id == "" || b.isHeld(id) {
		return nil
	}

	_, ok, err := b.store.LayerByName(id)
	if err != nil {
		return err
	}
	if !ok {
		return errRemoved(id)
	}
	return nil
}

// isHeld reports whether the build has made its hold of a layer.
func (b *Backend) isHeld(id string) bool {
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

// sameDirectory returns an error unless the directory of the layer id is the directory that the build has pinned.
func (b *Backend) sameDirectory(pinned *os.File, id string) error {
	now, err := b.statDirectory(id)
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

// statDirectory looks at the directory of the layer id. The error is fs.ErrNotExist if the layer or its directory is gone.
func (b *Backend) statDirectory(id string) (os.FileInfo, error) {
	path, err := b.store.Directory(id)
	if err != nil {
		return nil, err
	}
	return os.Stat(path)
}

// errRemoved says that a layer that the build has read is gone.
func errRemoved(id string) error {
	return fmt.Errorf("layer %.12s, which the step reads, was removed while the build ran: build again", id)
}
