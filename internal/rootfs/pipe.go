package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"

	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// Options are those of the tar that Flatten stores.
func (o FlattenOptions) Options() commit.TarOptions {
	return commit.TarOptions{
		Below: &commit.RootDir{Mode: 0o755}, Owner: o.Owner, Sparse: o.Sparse,
		Epoch: o.Times.Epoch, Clamp: o.Times.Clamp, Merged: true,
	}
}

// Pipe passes the tar of all files to take, which must read to the end. Nothing is kept in memory.
func Pipe(
	ctx context.Context, files Whole, o commit.TarOptions, take func(ctx context.Context, r io.Reader) error,
) (commit.Tar, error) {
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

	result, err := files.Tar(ctx, w, o)
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
