package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/copier"
	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// prepareExports checks the destinations before anything is built, and returns the outputs for the files of the image.
func (b *build) prepareExports() (outputs []builder.Output, err error) {
	for _, file := range b.spec.Result.Files() {
		if err := removeStale(file.Path); err != nil {
			return nil, fmt.Errorf("%s: %w", file.From, err)
		}
	}

	for _, e := range b.spec.Result.Exports {
		if e.Dest != "" && e.Dest != "-" {
			if err := checkDestination(e.Dest, e.Kind == spec.ExportLocal || e.IsDir); err != nil {
				return nil, fmt.Errorf("%s: %w", e.From, err)
			}
		}
		switch e.Kind {
		case spec.ExportLocal:
			outputs = append(outputs, toDirectory(e.Dest))
		case spec.ExportTar:
			outputs = append(outputs, b.target(e.Dest).write)
		}
	}
	return outputs, nil
}

// target returns the file at a path, or standard output for "-".
func (b *build) target(path string) target {
	return target{path: path, stdout: b.engine.Stdout, own: b.images.OwnFile}
}

// toDirectory writes the files below a directory, which is made if need be.
func toDirectory(path string) builder.Output {
	return func(ctx context.Context, r io.Reader) error {
		if err := os.MkdirAll(path, 0o700); err != nil { // as buildah: files of an image are not for everybody
			return err
		}
		dir, err := os.Open(path)
		if err != nil {
			return err
		}
		if err := errors.Join(copier.ExtractFiles(ctx, r, dir), dir.Close()); err != nil {
			return fmt.Errorf("to %s: %w", path, err)
		}
		return nil
	}
}

// copyImage writes the export if it holds an image. The image has the first name of the export there, else its own first
// name.
func (b *build) copyImage(ctx context.Context, e spec.Export, id string, o transfer.PushOptions) (err error) {
	if e.Transport() == "" {
		return nil
	}

	name := ""
	if names := b.options.Image.Names; len(names) > 0 {
		name = ":" + names[0]
	}
	if len(e.Names) > 0 {
		named, err := images.NormalizeTag(e.Names[0])
		if err != nil {
			return err
		}
		name = ":" + named.String()
	}

	if e.IsDir {
		_, err := b.images.Push(ctx, id, e.Location()+name, o)
		return err
	}

	dir, release, err := b.images.NewScratch()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()

	temp := filepath.Join(dir, "archive")
	if _, err := b.images.Push(ctx, id, e.Transport()+temp+name, o); err != nil {
		return err
	}

	in, err := os.Open(temp)
	if err != nil {
		return err
	}
	defer in.Close()
	return b.target(e.Dest).write(ctx, in)
}
