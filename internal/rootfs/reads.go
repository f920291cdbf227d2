package rootfs

import "slices"

// Guard watches the layers of a Stack. Any tool may remove an image while a build reads its files. The library then
// empties the directories of its layers, also under a mounted overlay and for open descriptors. So a result of these
// files gets a name, a record or an exit status of 0 only after Reads.Check or Reads.Settle has returned nil.
//
// Two mechanisms prevent a wrong result. A hold keeps the layers in the store while the build reads them. The check finds
// a layer that was removed before its hold was made, or by force.
//
// All methods are safe for concurrent use. Guards can be compared with ==.
type Guard interface {
	// Hold starts to keep the layers in the store, in the background.
	Hold()
	// Held starts the hold if that has not happened, and waits for it. The layers then stay until the Backend is closed.
	// Held returns an error if a layer cannot be held, for example because it was removed.
	Held() error
	// Check returns an error if a layer was removed since it was opened. It writes nothing.
	Check() error
}

// Reads are the Stacks whose files a step reads. The zero value reads nothing. It is for one goroutine.
type Reads struct {
	guards  []Guard
	holding bool
}

// Add remembers a Stack whose files are about to be read.
func (r *Reads) Add(s Stack) {
	g := s.Guard()
	if slices.Contains(r.guards, g) {
		return
	}

	r.guards = append(r.guards, g)
	if r.holding {
		g.Hold()
	}
}

// Hold starts to hold the layers of the Stacks, and of those that will be added.
func (r *Reads) Hold() {
	r.holding = true
	for _, g := range r.guards {
		g.Hold()
	}
}

// Settle waits for the holds and then does what Check does. After it the layers stay until the Backend is closed.
func (r *Reads) Settle() error {
	for _, g := range r.guards {
		if err := g.Held(); err != nil {
			return err
		}
	}
	return r.Check()
}

// Check returns an error if a layer that is read was removed. It writes nothing.
func (r *Reads) Check() error {
	for _, g := range r.guards {
		if err := g.Check(); err != nil {
			return err
		}
	}
	return nil
}
