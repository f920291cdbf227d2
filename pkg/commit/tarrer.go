package commit

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"hash/crc64"
	"io"
	"io/fs"

	"github.com/vbatts/tar-split/tar/storage"
)

// blockSize is the unit of a tar in bytes: headers and payloads are padded to it, and two empty
// blocks end the archive.
const blockSize = 512

// tarrer holds the state of one tar: the stream of its bytes, the tar-split record and the files
// that were written.
type tarrer struct {
	opts    TarOptions
	marks   string // prefix of the attributes of overlayfs
	out     *stream
	split   *splitter
	links   map[inode]string // the first path of each file that has several names
	entries int
	devices int    // device nodes that were left out
	device  string // the first of the device nodes
	refused error  // the first refusal of TarOptions.Owner
	crc     hash.Hash64

	head  bytes.Buffer // the blocks of the current header
	dents []byte       // scratch space for the list of a directory
}

func newTarrer(w io.Writer, o TarOptions) *tarrer {
	t := &tarrer{
		opts:  o,
		marks: "user.overlay.",
		out:   newStream(w),
		split: newSplitter(o.TarSplit),
		links: map[inode]string{},
		crc:   crc64.New(storage.CRCTable),
	}
	switch {
	case o.Merged:
		t.marks = noOverlay
	case o.Trusted:
		t.marks = "trusted.overlay."
	}
	return t
}

// end ends the stream. err is the first error before end, or nil.
func (t *tarrer) end(mode fs.FileMode, err error) (Tar, error) {
	if err == nil {
		err = t.finish()
	}

	id, closeErr := t.out.close()
	if closeErr != nil { // the cause, if err is errStopped
		err = closeErr
	}
	if err != nil {
		return Tar{}, fmt.Errorf("making a layer: %w", err)
	}

	return Tar{
		DiffID:   id,
		Size:     t.out.size,
		Entries:  t.entries,
		Devices:  t.devices,
		Device:   t.device,
		RootMode: mode,
	}, nil
}

// finish writes the end of the archive.
func (t *tarrer) finish() error {
	if t.refused != nil {
		return t.refused
	}
	t.emit(make([]byte, 2*blockSize))
	return t.split.close()
}

// errStopped ends the walk after the writer of the tar failed. The error of the writer is returned
// instead.
var errStopped = errors.New("the layer cannot be written")

// content continues to read a file as read(2) does: 0 bytes are the end of the file.
type content func(p []byte) (int, error)

// entry writes a header and the payload that the header announces. from may be nil if there is no
// payload.
func (t *tarrer) entry(ctx context.Context, h *tar.Header, from content) error {
	t.head.Reset()
	if err := encode(&t.head, h); err != nil {
		return err
	}
	t.emit(t.head.Bytes())

	var crc []byte
	if h.Size > 0 {
		t.crc.Reset()
		if err := t.payload(ctx, from, h.Size); err != nil {
			return fmt.Errorf("reading %q: %w", h.Name, err)
		}
		crc = t.crc.Sum(nil)
	}

	if err := t.split.file(h.Name, h.Size, crc); err != nil {
		return err
	}
	if rest := h.Size % blockSize; rest > 0 {
		t.emit(make([]byte, blockSize-rest))
	}
	t.entries++

	return nil
}

// emit writes bytes that are not payload.
func (t *tarrer) emit(p []byte) {
	t.split.raw(p)
	t.out.add(p)
}

// payload reads exactly size bytes into the stream. It asks for one byte more, so that a file that
// grew is noticed without another call: a short read of a regular file is the end of the file.
func (t *tarrer) payload(ctx context.Context, from content, size int64) error {
	for left := size; ; {
		if err := ctx.Err(); err != nil {
			return err
		}

		buf := t.out.tail()
		if t.out.failed.Load() {
			return errStopped
		}

		buf = buf[:min(int64(len(buf)), left+1)]
		n, err := from(buf)
		if err != nil {
			return err
		}
		if int64(n) > left || (n == 0 && left > 0) {
			return ErrChanged
		}

		if t.split != nil {
			t.crc.Write(buf[:n])
		}
		t.out.advance(n)
		left -= int64(n)
		if left == 0 && n < len(buf) {
			return nil
		}
	}
}
