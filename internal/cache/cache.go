// Package cache finds the layer that an earlier build made of the same step.
//
//	key := cache.Key{Parent: below, Step: step.Canon, Content: digests}.ID()
//	entry, ok, err := c.Get(ctx, key, parent)  // a hit: the step is not run
//	err = c.Put(ctx, key, entry)               // after a miss
//
// An [ID] is a digest of all that can change the result of a step (docs/cache.md lists it). The digests of
// content are our own: an ID never comes from an image's history, from sizes or from times.
//
// [Local] is the layers of the store: an ID is the name of a layer there, for example
// rbuild-cache-1f0c..., and a hit is a look-up by name. There is no index that could disagree with the
// store. A name moves when a step is run again on purpose (--no-cache), and goes with the layer when the image that
// holds the layer is removed, by whatever tool.
package cache

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// Cache keeps the results of steps. It is safe for concurrent use.
type Cache interface {
	// Get finds the result of a step on a layer. ok is false if the cache does not have the result. A layer is a difference
	// and means nothing on another layer, so a result on another parent is not found.
	Get(ctx context.Context, id ID, parent Parent) (e Entry, ok bool, err error)
	// Put keeps a result. The ID may have another result, which is replaced.
	Put(ctx context.Context, id ID, e Entry) error
}

// Parent returns the ID of the layer below a step, which may still be on its way into the store; "" for no layer. A Cache
// that finds nothing anyway does not call Parent, so that the step need not wait.
type Parent func(ctx context.Context) (layer string, err error)

// Entry is the result of a step.
type Entry struct {
	Layer     commit.Layer
	Unchanged bool   // the step changed nothing: Layer is the parent
	Notes     []byte // the warnings of the step, in the caller's format; nil: none
}

// Layers are the layers of a store (containers.Store).
type Layers interface {
	LayerByName(name string) (l containers.Layer, ok bool, err error)
	NameLayer(id, name string) error
	Notes(id string) ([]byte, error)
}

// Local returns the cache whose results are the layers of a store, by their names. A layer that is stored with the name
// of its ID is in the cache: Put writes nothing then.
func Local(store Layers) Cache { return local{store} }

type local struct{ store Layers }

func (c local) Get(ctx context.Context, id ID, parent Parent) (Entry, bool, error) {
	below, err := parent(ctx)
	if err != nil {
		return Entry{}, false, err
	}

	l, ok, err := c.store.LayerByName(id.Name())
	if err != nil || !ok {
		return Entry{}, false, err
	}
	if l.DiffID == "" || l.Parent != below && l.ID != below {
		return Entry{}, false, nil
	}

	e := Entry{Layer: l.Layer, Unchanged: l.ID == below}
	if !l.Noted || e.Unchanged { // the notes of the parent are those of another step
		return e, true, nil
	}
	if e.Notes, err = c.store.Notes(l.ID); err != nil {
		logrus.Debugf("Reading the notes of layer %s: %v", l.ID, err)
	}
	return e, true, nil
}

func (c local) Put(_ context.Context, id ID, e Entry) error {
	if e.Layer.ID == "" || slices.Contains(e.Layer.Names, id.Name()) {
		return nil
	}
	if err := c.store.NameLayer(e.Layer.ID, id.Name()); err != nil {
		return fmt.Errorf("keeping a result in the build cache: %w", err)
	}
	return nil
}

// None returns a cache that is always empty.
func None() Cache { return none{} }

type none struct{}

func (none) Get(context.Context, ID, Parent) (Entry, bool, error) { return Entry{}, false, nil }
func (none) Put(context.Context, ID, Entry) error                 { return nil }

// PutOnly returns a cache that finds nothing and keeps results in c: every step runs, and its result replaces the result
// that c has (--no-cache).
func PutOnly(c Cache) Cache {
	if c, ok := c.(putOnly); ok {
		return c
	}
	return putOnly{c}
}

type putOnly struct{ Cache }

func (putOnly) Get(context.Context, ID, Parent) (Entry, bool, error) { return Entry{}, false, nil }

// MaxAge returns a cache that finds only results of c that are younger than age (--cache-ttl). A step that changed
// nothing has no age. 0: every result.
func MaxAge(c Cache, age time.Duration) Cache {
	if age == 0 {
		return c
	}
	return maxAge{c, age}
}

type maxAge struct {
	Cache
	age time.Duration
}

func (c maxAge) Get(ctx context.Context, id ID, parent Parent) (Entry, bool, error) {
	e, ok, err := c.Cache.Get(ctx, id, parent)
	if ok && !e.Unchanged && time.Since(e.Layer.Created) > c.age {
		return Entry{}, false, nil
	}
	return e, ok, err
}
