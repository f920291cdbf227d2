package builder

import (
	"context"
	"io"

	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// Output takes the files of the target: r is a plain tar of its file system, flattened, with owners, modes and extended
// attributes, in an order and with headers that depend on nothing else. Times are whole seconds, and all
// LayerOptions.Epoch if that is set. An Output that does not read to the end returns an error.
type Output func(ctx context.Context, r io.Reader) error

// output gives the target's files to the outputs, one after the other. Nothing is kept in memory.
func (b *build) output(ctx context.Context, target *snapshot) (err error) {
	if len(b.options.Outputs) == 0 {
		return nil
	}

	b.show.notice("writing the files of the image")
	var reads rootfs.Reads
	reads.Add(target.files)
	reads.Hold()
	defer func() { err = removedOr(reads.Settle(), err) }()

	for i, out := range b.options.Outputs {
		o := commit.TarOptions{Epoch: b.epoch, Owner: b.options.Layers.Owner, Sparse: b.show.sparse}
		r, err := rootfs.Pipe(ctx, target.files, o, out)
		if err != nil {
			return err
		}
		if text := leftOut(r); text != "" && i == 0 {
			b.show.warn("--output: " + text)
		}
	}

	return nil
}
