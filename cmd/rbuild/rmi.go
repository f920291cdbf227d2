package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/engine"
	"codeberg.org/rbuild/rbuild/internal/images"
)

func newRmiCmd(a *app) *cobra.Command {
	var all, force, pruneDangling, ignore bool
	var peers cli.CompatFlags
	cmd := &cobra.Command{
		Use:   "rmi [flags] IMAGE [IMAGE...]",
		Short: "Remove images, or names of images",
		Long: "Remove images. One that has further names loses only the name that was given; one named by its ID is removed with\n" +
			"all its names only by --force. An image that containers of podman or buildah were made of is refused; --force removes\n" +
			"such containers, unless they are mounted. Layers that other images or the build cache need stay.",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case (all || pruneDangling) && len(args) > 0:
				return errors.New("--all and --prune take no names of images")
			case all && pruneDangling:
				return errors.New("--all and --prune exclude each other")
			case !all && !pruneDangling && len(args) == 0:
				return errors.New("name an image, or use --all or --prune")
			}

			if err := peers.Check(); err != nil {
				return err
			}
			return a.WithImages(cmd.Context(), func(_ context.Context, stores engine.Stores) error {
				r := remover{stores: stores, names: a.RegistryOptions().Names, force: force, out: cmd.OutOrStdout()}
				switch {
				case all:
					return r.removeIf(func(*imageList, *listed) bool { return true })
				case pruneDangling:
					return r.removeIf((*imageList).dangling)
				}

				var errs []error
				for _, name := range args {
					err := r.byName(name)
					if ignore && errors.Is(err, images.ErrNotFound) {
						continue
					}
					errs = append(errs, err)
				}

				return joinLines(errs)
			})
		},
	}

	f := cmd.Flags()
	f.BoolVarP(&all, "all", "a", false, "Remove all images")
	f.BoolVarP(&force, "force", "f", false, "Remove images with several names, and containers made of them")
	f.BoolVarP(&ignore, "ignore", "i", false, "Ignore images that are not in the store")
	peers.Register("rmi", f)
	f.BoolVarP(&pruneDangling, "prune", "p", false, "Remove images that have no name and that no other image was built on")

	return cmd
}

// remover removes images and prints the removed names and IDs, as podman does.
type remover struct {
	stores engine.Stores
	names  images.Names
	force  bool
	out    io.Writer
}

// byName removes the image that the user means by a name or an ID, or only the name if the image
// has several.
func (r remover) byName(name string) error {
	st, img, found, err := r.stores.Lookup(name, r.names)
	if err != nil {
		return err
	}
	if len(img.Names) > 1 && slices.Contains(img.Names, found) {
		return r.untag(st, img, found)
	}
	if len(img.Names) > 1 && !r.force {
		return fmt.Errorf("image %s has several names (%s): remove it by them, or with --force",
			cli.ShortID(img.ID), strings.Join(img.Names, ", "))
	}
	return r.remove(st, img)
}

// untag removes one of several names.
func (r remover) untag(st images.Store, img images.Image, found string) error {
	if err := st.RemoveImage(img.ID, images.Removal{Name: found}); err != nil {
		return err
	}
	_, err := fmt.Fprintln(r.out, "untagged:", found)
	return err
}

// remove removes an image with all its names.
func (r remover) remove(st images.Store, img images.Image) error {
	err := st.RemoveImage(img.ID, images.Removal{Force: r.force})
	if inUse, ok := errors.AsType[*images.InUseError](err); ok && !inUse.Mounted {
		return fmt.Errorf("%w: remove that with podman or buildah, or use --force", err)
	}
	if err != nil {
		return err
	}

	for _, name := range img.Names {
		if _, err := fmt.Fprintln(r.out, "untagged:", name); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(r.out, img.ID)
	return err
}

// removeIf removes every image that the condition holds for. The removal of an image can make
// another image dangling, so that removeIf starts again until nothing changes.
func (r remover) removeIf(condition func(l *imageList, img *listed) bool) error {
	type key struct {
		store images.Store
		id    string
	}
	failed := make(map[key]error)
	for {
		l, err := listImages(r.stores)
		if err != nil {
			return err
		}

		removed := false
		for _, img := range l.images {
			k := key{img.store, img.ID}
			if failed[k] != nil || img.ReadOnly || !condition(l, img) {
				continue
			}
			if err := r.remove(img.store, img.Image); err != nil {
				failed[k] = err
				continue
			}
			removed = true
		}
		if removed {
			continue
		}

		var errs []error
		for _, img := range l.images {
			errs = append(errs, failed[key{img.store, img.ID}])
		}
		return joinLines(errs)
	}
}

// joinLines is errors.Join on one line.
func joinLines(errs []error) error {
	var first error
	for _, err := range errs {
		switch {
		case err == nil:
		case first == nil:
			first = err
		default:
			first = fmt.Errorf("%w; %w", first, err)
		}
	}
	return first
}
