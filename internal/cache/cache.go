// Package cache answers what an earlier build made of a step: what the step depends on -> key -> layer.
//
// A key is a digest over everything that can change the step's result (docs/cache.md lists it). The key is a *name* of
// the layer in the store: a hit is a look-up by name, and there is no index that could disagree with the store. A name
// moves when a step is run again on purpose (--no-cache), and goes with the layer when the image that holds it is
// removed, by whatever tool.
//
// Keys come from our own digests of content, never from an image's history, from sizes or times.
package cache

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
)

// salt changes whenever the same ingredients would give another result than before.
const salt = "rbuild step cache, version 3"

// namePrefix marks the names of layers that are keys.
const namePrefix = "rbuild-cache-"

// Key identifies the result of a step. The zero value is the key of nothing.
type Key string

// ForBase is the key of a stage's start: an image by the hexadecimal digest of its config document, which covers its
// layers' digests; the empty text is scratch.
func ForBase(config string) Key { return digest("base", []string{config}) }

// ForSquash is the key of the one layer that is made of several (--squash), by their DiffIDs.
func ForSquash(diffIDs, options []string) Key { return digest("squash", diffIDs, options) }

// Ingredients is everything that a step's result depends on.
type Ingredients struct {
	Parent   Key      // the step below
	Step     string   // the instruction in canonical form, after expansion
	Args     []string // KEY=VALUE of the build arguments that the step can see
	Content  []string // digests of what it copies or mounts
	Platform string   // os/architecture/variant
	Options  []string // options of the command line that change the result
}

// Key is the digest of the ingredients. Each is framed, so that no two different sets read the same.
func (in Ingredients) Key() Key {
	return digest("step", []string{string(in.Parent)}, []string{in.Step}, in.Args, in.Content, []string{in.Platform}, in.Options)
}

// digest hashes lists of strings, of any bytes. Each list is preceded by its length, and each string by its own.
func digest(kind string, lists ...[]string) Key {
	h := sha256.New()
	for _, list := range append([][]string{{salt, kind}}, lists...) {
		fmt.Fprintf(h, "%d;", len(list))
		for _, s := range list {
			fmt.Fprintf(h, "%d:%s", len(s), s)
		}
	}
	return Key(hex.EncodeToString(h.Sum(nil)))
}

// Unknown returns a random key, for a result whose ingredients are unknown. No look-up finds it.
func Unknown() Key { return digest("unknown", []string{rand.Text()}) }

// Name is the layer name that stands for the key.
func (k Key) Name() string { return namePrefix + string(k) }

// Lookup finds the layer that the key names. Only one that lies on the given parent layer counts ("": none): a layer
// is a difference, and means nothing on another base. A key may also name the parent itself: the step changed nothing.
func Lookup(st *containers.Store, k Key, parent string) (l containers.Layer, ok bool, err error) {
	l, ok, err = st.LayerByName(k.Name())
	if err != nil || !ok {
		return containers.Layer{}, false, err
	}
	if l.DiffID == "" || (l.Parent != parent && l.ID != parent) {
		return containers.Layer{}, false, nil
	}
	return l, true, nil
}
