package main

import (
	"context"

	"github.com/spf13/cobra"

	"codeberg.org/rbuild/rbuild/internal/engine"
	"codeberg.org/rbuild/rbuild/internal/images"
)

func newTagCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "tag IMAGE NAME [NAME...]",
		Short: "Give an image further names",
		Long: "Give an image further names. A name without a registry goes below localhost/, a name without a tag gets :latest.\n" +
			"An image that had the name loses it. Example: rbuild tag 3f5a0c team/app:1.2",
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			names := make([]string, 0, len(args)-1)
			for _, arg := range args[1:] {
				name, err := images.NormalizeTag(arg)
				if err != nil {
					return err
				}
				names = append(names, name.String())
			}

			return a.WithImages(cmd.Context(), func(_ context.Context, stores engine.Stores) error {
				st, img, _, err := stores.Lookup(args[0], a.RegistryOptions().Names)
				if err != nil {
					return err
				}
				_, err = st.NameImage(img.ID, names)
				return err
			})
		},
	}
}
