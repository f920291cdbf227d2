package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"codeberg.org/rbuild/rbuild/internal/archive"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// Output takes the files of the target: r is a plain tar of its whole file system, flattened, with owners, modes and
// extended attributes, in an order and with headers that depend on nothing else. Times are whole seconds, and all
// Options.Epoch if that is set. An Output that does not read to the end returns an error.
type Output func(ctx context.Context, r io.Reader) error

// output gives the target's files to the outputs, one after the other. Nothing is kept in memory.
func (b *builder) output(ctx context.Context, target *snapshot) (err error) {
	if len(b.Outputs) == 0 {
		return nil
	}

	b.notice("writing the files of the image")
	write, done, err := b.whole(ctx, target)
	if err != nil {
		return err
	}
	defer func() { err = gone(done(), err) }()

	for i, out := range b.Outputs {
		o := commit.TarOptions{Epoch: b.Epoch, Owner: b.Owner, Sparse: b.sparseOutput}
		r, err := flatten(ctx, write, o, out)
		if err != nil {
			return err
		}
		if text := leftOut(r); text != "" && i == 0 {
			b.warn("--output: " + text)
		}
	}

	return nil
}

// leftOut returns the warning about devices that are not in a tar of all files, or "" if no device was left out.
func leftOut(r commit.Tar) string {
	return archive.Devices{First: r.Device, Count: r.Devices}.Text()
}

// writeTar writes the tar of all files of a snapshot.
type writeTar func(ctx context.Context, w io.Writer, o commit.TarOptions) (commit.Tar, error)

// whole returns the files of a snapshot. The caller calls done after the last read, and before a result of these files gets
// a name. done returns an error if a layer of the snapshot was removed meanwhile. It may be called again.
func (b *builder) whole(ctx context.Context, s *snapshot) (write writeTar, done func() error, err error) {
	if s.memory != nil {
		files, err := s.memory.load(ctx)
		if err != nil {
			return nil, nil, err
		}
		return files.WriteAll, func() error { return nil }, nil
	}

	r := &reads{builder: b}
	view, err := r.open(s)
	if err != nil {
		return nil, nil, err
	}

	r.hold()
	write = func(ctx context.Context, w io.Writer, o commit.TarOptions) (commit.Tar, error) {
		return commit.WriteTar(ctx, view, w, o)
	}
	return write, sync.OnceValue(func() error { return errors.Join(view.Close(), r.settle()) }), nil
}

// gone returns the error of removed if there is one, because it is the cause of err, and err otherwise.
func gone(removed, err error) error {
	if removed != nil {
		return removed
	}
	return err
}

// flatten passes the tar that write writes to take.
func flatten(ctx context.Context, write writeTar, o commit.TarOptions, take Output) (commit.Tar, error) {
	o.Merged = true
	r, w := io.Pipe()
	taken := make(chan error, 1)
	go func() {
		err := take(ctx, r)
		if err == nil {
			_, err = io.Copy(io.Discard, r) // what follows the end of a tar
		}
		r.CloseWithError(errors.Join(errTaken, err))
		taken <- err
	}()

	result, err := write(ctx, w, o)
	w.CloseWithError(err) // nil: the end
	if takeErr := <-taken; takeErr != nil && (err == nil || errors.Is(err, errTaken)) {
		err = takeErr
	}
	if err != nil {
		return commit.Tar{}, fmt.Errorf("writing the files of the image: %w", err)
	}

	return result, nil
}

// errTaken ends the stream when its reader has returned.
var errTaken = errors.New("nobody reads on")
