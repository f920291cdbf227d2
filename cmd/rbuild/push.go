package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/engine"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

func newPushCmd(a *app) *cobra.Command {
	var f cli.PushFlags
	cmd := &cobra.Command{
		Use:   "push [flags] IMAGE [DESTINATION]",
		Short: "Copy an image to a registry, an archive or a directory",
		Long: "Copy an image to DESTINATION: a name in a registry (default: the name of the image), or\n" +
			"docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], dir:DIR.\n" +
			"docker:cli and dir:latest are names of images. Write dir:./latest for the directory.",
		Example: "  rbuild push registry.example/app:1\n" +
			"  rbuild push app docker://registry.example/app:1\n" +
			"  rbuild push app oci-archive:app.tar",
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

			return a.WithImages(cmd.Context(), func(ctx context.Context, stores engine.Stores) error {
				st, _, _, err := stores.Lookup(args[0], o.Names)
				if err != nil {
					return err
				}
				pushed, err := transfer.Push(ctx, st, args[0], destination, o)
				if err != nil || f.DigestFile == "" {
					return err
				}
				if err := os.WriteFile(f.DigestFile, []byte(pushed.Digest), 0o644); err != nil { //nolint:gosec // as public as the image
					return fmt.Errorf("writing the digest: %w", err)
				}
				return nil
			})
		},
	}

	f.Register(cmd.Flags())
	return cmd
}

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
