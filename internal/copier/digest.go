package copier

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"github.com/opencontainers/go-digest"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// digestVersion changes when Write writes the same selection differently than before.
const digestVersion = "rbuild copy 1"

// encoder feeds values into a hash. No two sequences of values give the same bytes: each value has
// a fixed length or a length in front.
type encoder struct{ h hash.Hash }

func (e encoder) num(n uint64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	e.h.Write(b[:])
}

func (e encoder) bytes(b []byte) {
	e.num(uint64(len(b)))
	e.h.Write(b)
}

func (e encoder) text(s string) { e.bytes([]byte(s)) }

func (e encoder) flag(b bool) {
	if b {
		e.num(1)
	} else {
		e.num(0)
	}
}

// owner encodes a user and a group.
func (e encoder) owner(o fdfs.Owner) {
	e.num(uint64(o.UID))
	e.num(uint64(o.GID))
}

// digestItems returns the digest of a selection. It covers no times, and does not depend on the
// order in which a directory lists its entries, because they are sorted.
func digestItems(spec Spec, r rules, items []*item) digest.Digest {
	e := encoder{sha256.New()}
	e.text(digestVersion)
	e.text(spec.Dest)
	e.text(spec.Chmod)
	e.flag(spec.Chown != nil)
	if spec.Chown != nil {
		e.owner(*spec.Chown)
	}

	d := digester{encoder: e, rules: r, ids: map[*node]uint64{nil: 0}}
	e.num(uint64(len(items)))
	for _, it := range items {
		e.text(it.name)
		e.flag(it.archive)
		// Write does not give the metadata of a source directory to its destination.
		if !it.node.isDir() || spec.literal {
			d.node(it.node)
			continue
		}
		e.num(uint64(it.node.stat.Type))
		d.content(it.node)
	}

	return digest.NewDigest(digest.SHA256, e.h)
}

// digester encodes nodes.
type digester struct {
	encoder
	rules rules
	ids   map[*node]uint64 // numbers of the files that later files are hard links to; 0: no link
}

// node encodes the metadata and the content of n.
func (d digester) node(n *node) {
	d.num(uint64(n.stat.Type))
	d.flag(n.merge)
	d.num(uint64(d.rules.mode(n)))
	d.owner(d.rules.owner(n))
	d.content(n)
}

// content encodes the content of n.
func (d digester) content(n *node) {
	if n.known != "" {
		d.text(n.known)
		return
	}
	switch n.stat.Type {
	case fdfs.Regular:
		if n.shared {
			d.ids[n] = uint64(len(d.ids))
		}
		d.num(d.ids[n.link])
		d.bytes(n.sum[:])
		d.bytes(n.caps)
	case fdfs.Symlink:
		d.text(n.target)
	case fdfs.Directory:
		d.num(uint64(len(n.kids)))
		for _, kid := range n.kids {
			d.text(kid.name)
			d.node(kid)
		}
	case fdfs.Fifo, fdfs.CharDevice, fdfs.BlockDevice, fdfs.Socket, fdfs.Unknown:
		d.num(n.stat.Rdev)
	}
}
