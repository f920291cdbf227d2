package commit

import (
	"bufio"
	"fmt"
	"io"

	"github.com/vbatts/tar-split/tar/storage"
)

// splitter writes the tar-split record of a tar: the bytes between payloads as segments, and the
// name, size and CRC-64 of each payload. The record equals the record that asm.NewInputTarStream of
// tar-split writes when it parses the tar. A nil splitter records nothing.
type splitter struct {
	buf     *bufio.Writer
	packer  storage.Packer
	pending []byte // bytes after the last payload
}

func newSplitter(w io.Writer) *splitter {
	if w == nil {
		return nil
	}
	buf := bufio.NewWriterSize(w, 16<<10)
	return &splitter{buf: buf, packer: storage.NewJSONPacker(buf)}
}

// raw records bytes that belong to no payload: headers and padding.
func (s *splitter) raw(p []byte) {
	if s != nil {
		s.pending = append(s.pending, p...)
	}
}

// file ends the segment and records the payload after the segment: the name of the file, the size
// in bytes and the checksum, which is nil if size is 0.
func (s *splitter) file(name string, size int64, crc []byte) error {
	if s == nil {
		return nil
	}
	if err := s.segment(); err != nil {
		return err
	}

	e := storage.Entry{Type: storage.FileType, Size: size, Payload: crc}
	e.SetName(name)
	if _, err := s.packer.AddEntry(e); err != nil {
		return fmt.Errorf("recording %q for tar-split: %w", name, err)
	}
	return nil
}

// segment records the pending bytes.
func (s *splitter) segment() error {
	if len(s.pending) == 0 {
		return nil
	}
	_, err := s.packer.AddEntry(storage.Entry{Type: storage.SegmentType, Payload: s.pending})
	if err != nil {
		return fmt.Errorf("recording headers for tar-split: %w", err)
	}
	s.pending = s.pending[:0]
	return nil
}

// close records the bytes after the last payload.
func (s *splitter) close() error {
	if s == nil {
		return nil
	}
	if err := s.segment(); err != nil {
		return err
	}
	if err := s.buf.Flush(); err != nil {
		return fmt.Errorf("recording for tar-split: %w", err)
	}
	return nil
}
