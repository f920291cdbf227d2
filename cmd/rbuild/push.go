package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"codeberg.org/rbuild/rbuild/pkg/registry"
	"codeberg.org/rbuild/rbuild/pkg/store"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

func newPushCmd(a *app) *cobra.Command {
	var (
		access     accessFlags
		retry      retryFlags
		compress   compressionFlags
		peers      peerFlags
		o          registry.PushOptions
		digestFile string
		quiet      bool
	)
	cmd := &cobra.Command{
		Use:   "push [flags] IMAGE [DESTINATION]",
		Short: "Copy an image from the store to a registry, an archive or a directory",
		Long: "Copy an image of the store to DESTINATION: a name in a registry (default: the name of the image), or\n" +
			"docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], dir:DIR.\n" +
			"A word with a tag, such as docker:cli or dir:latest, is the name of an image: write dir:./DIR.",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.Options, err = access.apply(a.sys()); err != nil {
				return err
			}
			if !quiet {
				a.reportTo(&o.Options)
			}
			if err := errors.Join(retry.check(), compress.check(), peers.check()); err != nil {
				return err
			}
			o.Options = retry.apply(o.Options)
			compress.apply(&o)
			destination := ""
			if len(args) > 1 {
				destination = args[1]
			}
			push := func(ctx context.Context, place images) error {
				pushed, err := place.Push(ctx, args[0], destination, o)
				if err != nil || digestFile == "" {
					return err
				}
				if err := os.WriteFile(digestFile, []byte(pushed.Digest), 0o644); err != nil { //nolint:gosec // as public as the image
					return fmt.Errorf("writing the digest: %w", err)
				}
				return nil
			}
			err = a.withStore(cmd.Context(), func(ctx context.Context, st *store.Store) error {
				err := push(ctx, storeImages{Store: st})
				if a.state.Mode != userns.Single || !errors.Is(err, registry.ErrNotFound) {
					return err
				}
				layout, layoutErr := a.openLayout(err, "")
				if layoutErr != nil {
					return err
				}
				return push(ctx, layout)
			})
			if err == nil || a.state != nil {
				return err
			}
			layout, err := a.withoutNamespace(err)
			if err != nil {
				return err
			}
			defer a.endAnyway(cmd.Context())()
			return push(cmd.Context(), layout)
		},
	}
	f := cmd.Flags()
	access.register(f)
	retry.register(f)
	compress.register(f)
	peers.registerOf("push", f)
	f.BoolVar(&o.NoSignatures, "remove-signatures", false, "leave the signatures of the image behind")
	f.StringVarP(&o.Format, "format", "f", "", "manifest format: oci, docker or v2s2 (default: as the image is stored)")
	f.StringVar(&digestFile, "digestfile", "", "file to write the digest of the pushed manifest to")
	f.BoolVarP(&quiet, "quiet", "q", false, "show no progress")
	return cmd
}
