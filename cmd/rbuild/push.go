package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/engine"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/transfer"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// pushOptions returns the options of a push. Warnings are printed by the launcher, because the builder parses the same
// flags again.
func (a *app) pushOptions(f *cli.PushFlags, destination string) (o transfer.PushOptions, err error) {
	var warnings io.Writer
	if a.State == nil {
		warnings = a.stderr
	}
	push, err := f.Parse(destination, warnings)
	if err != nil {
		return o, err
	}

	if o.Options, err = engine.Access(a.RegistryOptions(), push.Access); err != nil {
		return o, err
	}
	if !f.Quiet {
		a.reportTo(&o.Options)
	}
	o.Format = push.Format
	o.NoSignatures = push.NoSignatures
	engine.SetCompression(&o, push.Compression)
	return o, nil
}

func newPushCmd(a *app) *cobra.Command {
	var f cli.PushFlags
	cmd := &cobra.Command{
		Use:   "push [flags] IMAGE [DESTINATION]",
		Short: "Copy an image from the store to a registry, an archive or a directory",
		Long: "Copy an image of the store to DESTINATION: a name in a registry (default: the name of the image), or\n" +
			"docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], dir:DIR.\n" +
			"docker:cli and dir:latest are names of images. Write dir:./latest for the directory.",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			destination := ""
			if len(args) > 1 {
				destination = args[1]
			}
			o, err := a.pushOptions(&f, destination)
			if err != nil {
				return err
			}

			push := func(ctx context.Context, place engine.Images) error {
				pushed, err := place.Push(ctx, args[0], destination, o)
				if err != nil || f.DigestFile == "" {
					return err
				}
				if err := os.WriteFile(f.DigestFile, []byte(pushed.Digest), 0o644); err != nil { //nolint:gosec // as public as the image
					return fmt.Errorf("writing the digest: %w", err)
				}
				return nil
			}

			err = a.WithStore(cmd.Context(), func(ctx context.Context, st *containers.Store) error {
				err := push(ctx, engine.StoreImages(st))
				if a.State.Mode != userns.Single || !errors.Is(err, transfer.ErrNotFound) {
					return err
				}
				layout, layoutErr := a.OpenLayout(err)
				if layoutErr != nil {
					return err
				}
				return push(ctx, layout)
			})

			if err == nil || a.State != nil {
				return err
			}

			layout, err := a.WithoutNamespace(err)
			if err != nil {
				return err
			}
			defer a.Watch(cmd.Context())()
			return push(cmd.Context(), layout)
		},
	}

	f.Register(cmd.Flags())
	return cmd
}
