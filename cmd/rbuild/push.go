package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// pushFlags are the flags of rbuild push.
type pushFlags struct {
	access     accessFlags
	retry      retryFlags
	compress   compressionFlags
	peers      peerFlags
	unsigned   bool
	format     string
	digestFile string
	quiet      bool
}

func (f *pushFlags) register(fs *pflag.FlagSet) {
	f.access.register(fs)
	f.retry.register(fs)
	f.compress.register(fs)
	f.peers.registerOf("push", fs)
	fs.BoolVar(&f.unsigned, "remove-signatures", false, "do not copy the signatures of the image")
	fs.StringVarP(&f.format, "format", "f", "", "manifest format: oci, docker or v2s2 (default: as the image is stored)")
	fs.StringVar(&f.digestFile, "digestfile", "", "file to write the digest of the pushed manifest to")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "show no progress")
}

// options returns the options of a push, and refuses flags that the destination cannot have. args
// are IMAGE and DESTINATION.
func (f *pushFlags) options(a *app, args []string, warnings io.Writer) (o transfer.PushOptions, err error) {
	if o.Options, err = f.access.apply(a.sys()); err != nil {
		return o, err
	}

	destination := ""
	if len(args) > 1 {
		destination = args[1]
	}
	for _, check := range []func() error{
		f.retry.check,
		f.compress.check,
		f.peers.check,
		func() error { return f.compress.checkDestination(destination) },
	} {
		if err := check(); err != nil {
			return o, err
		}
	}

	if err := transfer.CheckFormat(f.format, destination); err != nil {
		return o, fmt.Errorf("--format %s: %w", f.format, err)
	}

	if a.state == nil && !transfer.IsRegistry(destination) { // the process in the namespace comes here, too
		f.access.tellUnused(warnings, destination)
	}
	if !f.quiet {
		a.reportTo(&o.Options)
	}
	o.Options, o.Format = f.retry.apply(o.Options), f.format
	o.NoSignatures = f.unsigned
	f.compress.apply(&o)

	return o, nil
}

func newPushCmd(a *app) *cobra.Command {
	var f pushFlags
	cmd := &cobra.Command{
		Use:   "push [flags] IMAGE [DESTINATION]",
		Short: "Copy an image to a registry, an archive or a directory",
		Long: "Copy an image to DESTINATION: a name in a registry (default: the name of the image), or\n" +
			"docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], dir:DIR.\n" +
			"docker:cli and dir:latest are names of images. Write dir:./latest for the directory.",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options(a, args, a.stderr)
			if err != nil {
				return err
			}

			destination := ""
			if len(args) > 1 {
				destination = args[1]
			}
			return a.withImages(cmd.Context(), func(ctx context.Context, stores imageStores) error {
				st, _, _, err := stores.lookup(args[0], o.Names)
				if err != nil {
					return err
				}
				pushed, err := transfer.Push(ctx, st, args[0], destination, o)
				if err != nil || f.digestFile == "" {
					return err
				}
				if err := os.WriteFile(f.digestFile, []byte(pushed.Digest), 0o644); err != nil { //nolint:gosec // as public as the image
					return fmt.Errorf("writing the digest: %w", err)
				}
				return nil
			})
		},
	}

	f.register(cmd.Flags())
	return cmd
}
