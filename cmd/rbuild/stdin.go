package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// stepInput is what RUN gets as its standard input: in itself if that is a pipe or a socket, else a pipe that a goroutine
// fills from it. A file could be opened again by way of /proc/self/fd/0, for writing too, a directory be entered, and a
// terminal be written to past all that keeps the output of steps from steering it. The pipe stays open for the life of the process.
func stepInput(in *os.File) (*os.File, error) {
	info, err := in.Stat()
	if err != nil {
		return nil, fmt.Errorf("--stdin: %w", err)
	}
	if info.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0 {
		return in, nil
	}
	if info.IsDir() {
		return nil, errors.New("--stdin: standard input is a directory")
	}

	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("--stdin: %w", err)
	}

	signal.Ignore(unix.SIGTTIN) // a build in the background that reads a terminal gets an error, and RUN the end of the input
	go func() {
		_, _ = io.Copy(w, in) // RUN learns no more than that the input ends
		_ = w.Close()
	}()

	return r, nil
}
