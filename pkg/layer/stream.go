package layer

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
)

const (
	// chunkSize and maxChunks bound the memory of a stream. 256 KiB stays in the second level cache of
	// the core that hashes it.
	chunkSize = 256 << 10
	maxChunks = 4
	// firstChunk is enough for a layer of a few small files.
	firstChunk = 16 << 10
)

// stream takes the bytes of a tar, hashes them and hands them to a writer. Reading files and hashing what was read
// take about the same time, so the hash has its own goroutine, which starts when the first chunk is full: a small
// layer never needs it.
type stream struct {
	w    io.Writer // may be nil
	sum  hash.Hash
	size int64

	cur    []byte // the chunk that is being filled
	chunks int    // how many of chunkSize were made
	full   chan []byte
	free   chan []byte
	done   chan error
	failed atomic.Bool // the writer returned an error, which is in done
}

func newStream(w io.Writer) *stream {
	return &stream{w: w, sum: sha256.New(), cur: make([]byte, 0, firstChunk)}
}

// add copies p into the stream. A failed writer shows in failed and close.
func (s *stream) add(p []byte) {
	for len(p) > 0 {
		n := copy(s.tail(), p)
		s.advance(n)
		p = p[n:]
	}
}

// tail returns free space, at least one byte, to be filled from its start and then claimed with advance.
func (s *stream) tail() []byte {
	if len(s.cur) == cap(s.cur) {
		s.handOver()
	}
	return s.cur[len(s.cur):cap(s.cur)]
}

// advance claims the first n bytes of the last tail.
func (s *stream) advance(n int) {
	s.cur = s.cur[:len(s.cur)+n]
	s.size += int64(n)
}

// handOver gives the full chunk to the goroutine that hashes and takes an empty one.
func (s *stream) handOver() {
	if s.full == nil {
		s.full = make(chan []byte, maxChunks)
		s.free = make(chan []byte, maxChunks)
		s.done = make(chan error, 1)
		go s.drain()
	}

	s.full <- s.cur
	if s.chunks < maxChunks {
		select {
		case s.cur = <-s.free:
		default:
			s.cur = make([]byte, 0, chunkSize)
			s.chunks++
		}
		return
	}
	s.cur = <-s.free
}

func (s *stream) drain() {
	var err error
	for c := range s.full {
		if err == nil {
			if err = s.put(c); err != nil {
				s.failed.Store(true)
			}
		}
		if cap(c) == chunkSize { // not the first
			s.free <- c[:0]
		}
	}

	s.done <- err
}

func (s *stream) put(chunk []byte) error {
	s.sum.Write(chunk)
	if s.w == nil {
		return nil
	}
	if _, err := s.w.Write(chunk); err != nil {
		return fmt.Errorf("writing the layer: %w", err)
	}
	return nil
}

// close hashes and writes what is left, ends the goroutine and returns the digest of everything. It must be called
// once, also after an error elsewhere.
func (s *stream) close() (digest.Digest, error) {
	if s.full != nil {
		close(s.full)
		if err := <-s.done; err != nil {
			return "", err
		}
	}
	if err := s.put(s.cur); err != nil {
		return "", err
	}
	return digest.NewDigest(digest.SHA256, s.sum), nil
}
