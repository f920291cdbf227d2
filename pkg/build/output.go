package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"codeberg.org/rbuild/rbuild/pkg/layer"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

// Output takes the files of the target: r is a plain tar of its whole file system, flattened, with owners, modes and
// extended attributes, in an order and with headers that depend on nothing else. Times are whole seconds, and all
// Options.Epoch if that is set. An Output that does not read to the end returns an error.
type Output func(ctx context.Context, r io.Reader) error

// output gives the target's files to the outputs, one after the other. Nothing is kept in memory.
func (b *builder) output(ctx context.Context, target *snapshot) error {
	if len(b.Outputs) == 0 {
		return nil
	}
	b.notice("writing the files of the image")
	view, err := overlay.Open(overlay.Mount{Lowers: target.root.lowers(), Trusted: b.Trusted})
	if err != nil {
		return err
	}
	defer view.Close()
	for _, out := range b.Outputs {
		if _, err := flatten(ctx, view, layer.Options{Epoch: b.Epoch}, out); err != nil {
			return err
		}
	}
	return (&stage{builder: b, snapshot: target}).intact()
}

// flatten passes the tar of what the directory root shows to take.
func flatten(ctx context.Context, root *os.File, o layer.Options, take Output) (layer.Result, error) {
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
	result, err := layer.Write(ctx, root, w, o)
	w.CloseWithError(err) // nil: the end
	if takeErr := <-taken; takeErr != nil && (err == nil || errors.Is(err, errTaken)) {
		err = takeErr
	}
	if err != nil {
		return layer.Result{}, fmt.Errorf("writing the files of the image: %w", err)
	}
	return result, nil
}

// errTaken ends the stream when its reader has returned.
var errTaken = errors.New("nobody reads on")
