package copier

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"github.com/opencontainers/go-digest"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// digestVersion changes when the same selection is written otherwise than before.
const digestVersion = "rbuild copy 1"

// encoder feeds values into a hash so that no two sequences of values give the same bytes.
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

// sum digests the selection. Times stay out; the order of directory entries is that of their names already.
func (s *Selection) sum() digest.Digest {
	e := encoder{sha256.New()}
	e.text(digestVersion)
	e.text(s.spec.Dest)
	e.text(s.spec.Chmod)
	e.flag(s.spec.Chown != nil)
	if o := s.spec.Chown; o != nil {
		e.num(uint64(o.UID))
		e.num(uint64(o.GID))
	}

	ids := map[*node]uint64{nil: 0}
	e.num(uint64(len(s.items)))
	for _, it := range s.items {
		e.text(it.name)
		e.flag(it.archive)
		s.encode(e, it.node, !s.spec.literal, ids)
	}

	return digest.NewDigest(digest.SHA256, e.h)
}

// encode digests n. ids numbers the files that others are hard links to. The metadata of a source directory
// stays out: its content is written, into a directory that exists or is made by other rules.
func (s *Selection) encode(e encoder, n *node, source bool, ids map[*node]uint64) {
	e.num(uint64(n.stat.Type))
	if n.stat.Type != fdfs.Directory || !source {
		e.flag(n.merge)
		e.num(uint64(s.mode(n)))
		o := s.owner(n)
		e.num(uint64(o.UID))
		e.num(uint64(o.GID))
	}

	if n.known != "" {
		e.text(n.known)
		return
	}
	switch n.stat.Type {
	case fdfs.Regular:
		if n.shared {
			ids[n] = uint64(len(ids))
		}
		e.num(ids[n.link])
		e.bytes(n.sum[:])
		e.bytes(n.caps)
	case fdfs.Symlink:
		e.text(n.target)
	case fdfs.Directory:
		e.num(uint64(len(n.kids)))
		for _, kid := range n.kids {
			e.text(kid.name)
			s.encode(e, kid, false, ids)
		}
	case fdfs.Fifo, fdfs.CharDevice, fdfs.BlockDevice, fdfs.Socket, fdfs.Unknown:
		e.num(n.stat.Rdev)
	}
}

// mode returns the mode n will have.
func (s *Selection) mode(n *node) uint32 {
	mode := n.stat.Mode
	if n.stat.Type == fdfs.Symlink {
		return 0o777
	}
	if n.stat.Type == fdfs.Regular && s.tree != nil && s.tree.context {
		mode &^= 0o6000 // as the reference engine has it; setgid of directories stays
	}
	return s.chmod.apply(mode, n.stat.Type == fdfs.Directory)
}

// owner returns who n will belong to.
func (s *Selection) owner(n *node) Owner {
	switch {
	case s.spec.Chown != nil:
		return *s.spec.Chown
	case s.tree == nil || s.tree.context:
		return Owner{}
	}
	return Owner{n.stat.UID, n.stat.GID}
}
