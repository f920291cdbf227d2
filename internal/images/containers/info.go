package containers

import "fmt"

// Info describes a store for rbuild info.
type Info struct {
	Driver     string            // name of the storage driver
	Options    []string          // of the driver
	ImageStore string            // directory of images, if another than the graph root
	Status     map[string]string // of the driver
	Transient  bool              // the store forgets its containers at a reboot

	Images, Layers, Containers int // how many there are
}

// Info looks at the store.
func (s *Store) Info() (Info, error) {
	all, err := s.storage.Images()
	if err != nil {
		return Info{}, fmt.Errorf("listing the images: %w", err)
	}
	layers, err := s.storage.Layers()
	if err != nil {
		return Info{}, fmt.Errorf("listing the layers: %w", err)
	}
	containers, err := s.storage.Containers()
	if err != nil {
		return Info{}, fmt.Errorf("listing the containers: %w", err)
	}
	pairs, err := s.storage.Status()
	if err != nil {
		return Info{}, fmt.Errorf("asking the storage driver: %w", err)
	}

	status := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		status[pair[0]] = pair[1]
	}
	return Info{
		Driver:     s.storage.GraphDriverName(),
		Options:    s.storage.GraphOptions(),
		ImageStore: s.storage.ImageStore(),
		Status:     status,
		Transient:  s.storage.TransientStore(),
		Images:     len(all),
		Layers:     len(layers),
		Containers: len(containers),
	}, nil
}
