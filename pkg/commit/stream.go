package commit

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
)

const (
	// chunkSize and maxChunks bound the memory of a stream. 256 KiB stay in the second level cache
	// of the core that computes the digest.
	chunkSize = 256 << 10
	maxChunks = 4
	// firstChunk is the size in bytes of the first chunk, large enough for a layer of a few small
	// files.
	firstChunk = 16 << 10
)

// stream digests the bytes of a tar and passes them to a writer. Reading files and digesting them
// take about the same time, so the digest has its own goroutine. The goroutine starts when the
// first chunk is full: a small layer never needs the goroutine.
type stream struct {
	w    io.Writer // may be nil
	sum  hash.Hash
	size int64

	cur    []byte // the chunk that is being filled
	chunks int    // number of chunks of chunkSize that were allocated
	full   chan []byte
	free   chan []byte
	done   chan error
	failed atomic.Bool // the writer returned an error: see done
}

func newStream(w io.Writer) *stream {
	return &stream{w: w, sum: sha256.New(), cur: make([]byte, 0, firstChunk)}
}

// add copies p into the stream. Errors of the writer appear in failed and close.
func (s *stream) add(p []byte) {
	for len(p) > 0 {
		n := copy(s.tail(), p)
		s.advance(n)
		p = p[n:]
	}
}

// tail returns free space of at least one byte. The caller fills the space from its start and then
// calls advance.
func (s *stream) tail() []byte {
	if len(s.cur) == cap(s.cur) {
		s.handOver()
	}
	return s.cur[len(s.cur):cap(s.cur)]
}

// advance appends the first n bytes of the last tail to the stream.
func (s *stream) advance(n int) {
	s.cur = s.cur[:len(s.cur)+n]
	s.size += int64(n)
}

// handOver passes the full chunk to the goroutine and takes an empty chunk.
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

// drain is the goroutine that digests and writes chunks. After an error it only empties the
// channel.
func (s *stream) drain() {
	var err error
	for c := range s.full {
		if err == nil {
			if err = s.put(c); err != nil {
				s.failed.Store(true)
			}
		}
		if cap(c) == chunkSize { // the first chunk is smaller and not used again
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

// close digests and writes the last chunk, ends the goroutine and returns the digest of the stream.
// It must be called once, also after an error elsewhere.
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
