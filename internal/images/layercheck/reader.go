package layercheck

import (
	"archive/tar"
	"context"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"
)

// Reader passes on the uncompressed tar of a layer. Read returns io.EOF only if the check accepts
// the whole layer; data that was read before that may not be believed. The caller closes the
// Reader. It is not safe for concurrent use.
type Reader struct {
	ctx     context.Context //nolint:containedctx // an io.Reader's Read takes none
	src     io.Reader
	copy    *io.PipeWriter
	verdict chan error
	devices []string // valid when the verdict is nil
	err     error    // of every further Read
}

// NewReader checks the tar that src yields. Reading stops when ctx ends. stored is the size of the
// layer before decompression in bytes, and 0 if that is not known. owner reports why no file can
// belong to a user and group; nil: files can belong to anybody.
func NewReader(ctx context.Context, src io.Reader, stored int64, owner func(uid, gid int) error) *Reader {
	pr, pw := io.Pipe()
	r := &Reader{ctx: ctx, src: src, copy: pw, verdict: make(chan error, 1)}
	go func() {
		var err error
		r.devices, err = check(tar.NewReader(pr), stored, owner)
		if err == nil {
			_, err = io.Copy(io.Discard, pr) // padding behind the end of the archive
		}
		r.verdict <- err
		_ = pr.CloseWithError(err) // documented to return nil always
	}()

	return r
}

// Devices returns the names of the device nodes of the layer, sorted. They are known once Read has
// returned io.EOF.
func (r *Reader) Devices() []string { return r.devices }

func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if err := r.ctx.Err(); err != nil {
		return 0, r.fail(err)
	}

	n, err := r.src.Read(p)
	if n > 0 {
		if _, copyErr := r.copy.Write(p[:n]); copyErr != nil {
			return 0, r.fail(<-r.verdict)
		}
	}

	switch {
	case err == nil:
		return n, nil
	case !errors.Is(err, io.EOF):
		return n, r.fail(err)
	}

	_ = r.copy.Close() // documented to return nil always
	if err := <-r.verdict; err != nil {
		return 0, r.fail(err)
	}
	r.err = io.EOF
	return n, io.EOF
}

func (r *Reader) fail(err error) error {
	if err == nil {
		err = io.ErrClosedPipe
	}
	r.err = err
	_ = r.copy.CloseWithError(err) // documented to return nil always
	return err
}

// Cause returns why a layer could not be stored, given the error of the code that read from r and
// that may have met the consequence first. layer is the layer in messages. r must be closed.
func (r *Reader) Cause(err error, layer digest.Digest) error {
	if err == nil {
		return nil
	}

	verdict := r.judged()
	if owner, ok := errors.AsType[*OwnerError](verdict); ok {
		owner.Layer = layer
		return owner
	}
	if refused, ok := errors.AsType[*RefusedError](verdict); ok {
		return refused
	}
	return err
}

// judged returns the error of the part of the tar that was read. r must be closed.
func (r *Reader) judged() error {
	if r.err != nil {
		return r.err
	}
	return <-r.verdict
}

// Close ends the check of a tar that was not read to its end. It does not close src, and always
// returns nil.
func (r *Reader) Close() error {
	_ = r.copy.CloseWithError(io.ErrUnexpectedEOF) // documented to return nil always
	return nil
}
