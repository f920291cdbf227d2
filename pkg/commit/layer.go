package commit

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// Layer is a layer of a store. The zero value stands for scratch: no layer.
type Layer struct {
	ID      string        // the store's name for the layer
	Names   []string      // other names of the layer in the store, for example "rbuild-cache-<key>"
	Parent  string        // ID of the layer below; empty: none
	DiffID  digest.Digest // digest of the uncompressed tar
	Size    int64         // bytes of the uncompressed tar
	Created time.Time
}
