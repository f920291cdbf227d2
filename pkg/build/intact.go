package build

import (
	"fmt"
	"os"
)

// intact says whether the directories that the stage stands on are still the layers of the store. Any tool may remove an
// image while a build stands on it; its layers' directories are emptied then, under a mounted overlay too, and even if
// the image is pulled again at once under the same IDs, what was made on them meanwhile is not to be trusted.
func (s *stage) intact() error {
	if s.memory != nil {
		return nil // nobody removes blobs
	}
	return s.intactBelow(len(s.layers))()
}

// intactBelow is intact for the lowest n layers, to be asked later.
func (s *stage) intactBelow(n int) func() error {
	dirs, layers := s.root.dirs[s.root.bottom:], s.layers[:n]
	return func() error {
		for i, job := range layers {
			select {
			case <-job.Done():
			default:
				return nil // not stored yet, so nobody knows of it or of those above
			}
			l, err := job.Wait(s.interrupt)
			if err != nil {
				return err
			}
			if err := s.sameDirectory(dirs[i], l.ID); err != nil {
				return err
			}
		}
		return nil
	}
}

func (s *stage) sameDirectory(pinned *os.File, id string) error {
	path, err := s.Store.Directory(id)
	if err != nil {
		return fmt.Errorf("a layer that the build stands on was removed while it ran: %w", err)
	}
	now, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("a layer that the build stands on was removed while it ran: %w", err)
	}
	then, err := pinned.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(then, now) {
		return fmt.Errorf("layer %s, which the build stands on, was removed and made again while it ran: build again", id)
	}
	return nil
}
