package containers

import "fmt"

// keepNames gives the names and notes of the layers from top down to the layers of the image's record, if these are others:
// older layers with the same content. The names are keys of the build cache. They stay as long as the image, and the next
// build finds them.
func (s ImageStore) keepNames(id, top string) error {
	img, err := s.Image(id)
	if err != nil {
		return err
	}
	if top == "" || img.TopLayer == top {
		return nil
	}

	own, err := s.layers.Chain(top)
	if err != nil {
		return err
	}
	kept, err := s.Layers(img)
	if err != nil {
		return err
	}

	for i, l := range own {
		if i >= len(kept) || kept[i].ID == l.ID || kept[i].ReadOnly {
			continue
		}
		if err := s.layers.moveNames(l, kept[i]); err != nil {
			return fmt.Errorf("keeping the layers of image %s: %w", id, err)
		}
	}
	return nil
}

// moveNames gives the names and notes of a layer to another.
func (s *LayerStore) moveNames(from, to Layer) error {
	if from.Noted && !to.Noted {
		if err := s.CopyNotes(from.ID, to.ID); err != nil {
			return err
		}
	}
	for _, name := range from.Names {
		if err := s.NameLayer(to.ID, name); err != nil {
			return err
		}
	}
	return nil
}
