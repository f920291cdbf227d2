package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

func newTagCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "tag IMAGE NAME [NAME...]",
		Short: "Give an image further names",
		Long: "Give an image of the store further names. A name without a registry goes below localhost/, one without a tag gets\n" +
			":latest. An image that had the name loses it.",
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			names := make([]string, 0, len(args)-1)
			for _, arg := range args[1:] {
				name, err := transfer.NormalizeTag(arg)
				if err != nil {
					return err
				}
				names = append(names, name.String())
			}

			return a.WithStore(cmd.Context(), func(_ context.Context, st *containers.Store) error {
				img, _, err := a.lookup(st.Storage(), args[0])
				if err != nil {
					return err
				}
				if err := st.Storage().AddNames(img.ID, names); err != nil {
					return fmt.Errorf("naming image %s: %w", img.ID, err)
				}
				return nil
			})
		},
	}
}
