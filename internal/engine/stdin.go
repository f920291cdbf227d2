package engine

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// stepInput returns the standard input of RUN: in itself if that is a pipe or a socket, else a pipe that a goroutine fills
// from in. RUN could open a file again through /proc/self/fd/0, for writing too, could enter a directory, and could write to
// a terminal past the escaping of output. The pipe stays open for the life of the process.
func stepInput(in *os.File) (*os.File, error) {
	info, err := in.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0 {
		return in, nil
	}
	if info.IsDir() {
		return nil, errors.New("standard input is a directory")
	}

	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}

	signal.Ignore(fdfs.SIGTTIN) // a build in the background that reads a terminal gets an error, and RUN the end of the input
	go func() {
		_, _ = io.Copy(w, in) // RUN sees only that the input ends
		_ = w.Close()
	}()
	return r, nil
}

// Interruptible reads from r until ctx ends. Data that r delivers afterwards is discarded.
func Interruptible(ctx context.Context, r io.Reader) io.Reader {
	out, in := io.Pipe()
	go func() {
		_, err := io.Copy(in, r)
		in.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { in.CloseWithError(context.Cause(ctx)) })
	return out
}
