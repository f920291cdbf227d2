package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	cs "go.podman.io/storage"

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

func newRmiCmd(a *app) *cobra.Command {
	var all, force, pruneDangling, ignore bool
	var peers cli.CompatFlags
	cmd := &cobra.Command{
		Use:   "rmi [flags] IMAGE [IMAGE...]",
		Short: "Remove images, or names of images, from the store",
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
			return a.WithStore(cmd.Context(), func(_ context.Context, st *containers.Store) error {
				r := remover{st: st, force: force, out: cmd.OutOrStdout(), lookup: a.lookup}
				switch {
				case all:
					return r.removeIf(func(*imageList, *cs.Image) bool { return true })
				case pruneDangling:
					return r.removeIf((*imageList).dangling)
				}

				var errs []error
				for _, name := range args {
					err := r.byName(name)
					if ignore && errors.Is(err, transfer.ErrNotFound) {
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

// remover removes images and prints what it did, as podman does.
type remover struct {
	st    *containers.Store
	force bool
	out   io.Writer

	lookup func(st cs.Store, name string) (img *cs.Image, found string, err error) // for byName
}

// byName removes what the user means by a name or an ID.
func (r remover) byName(name string) error {
	img, found, err := r.lookup(r.st.Storage(), name)
	if err != nil {
		return err
	}
	if len(img.Names) > 1 && slices.Contains(img.Names, found) {
		return r.untag(img, found)
	}
	if len(img.Names) > 1 && !r.force {
		return fmt.Errorf("image %s has several names (%s): remove it by them, or with --force", cli.ShortID(img.ID), strings.Join(img.Names, ", "))
	}
	return r.remove(img)
}

// untag takes one of several names.
func (r remover) untag(img *cs.Image, found string) error {
	err := r.st.Freeing(func() error { return r.st.Storage().RemoveNames(img.ID, []string{found}) })
	if err != nil {
		return fmt.Errorf("removing the name %s: %w", found, err)
	}
	_, err = fmt.Fprintln(r.out, "untagged:", found)
	return err
}

func (r remover) remove(img *cs.Image) error {
	if err := r.removeContainers(img.ID); err != nil {
		return err
	}

	err := r.st.Freeing(func() error {
		_, err := r.st.Storage().DeleteImage(img.ID, true)
		return err
	})
	if err != nil {
		return fmt.Errorf("removing image %s: %w", cli.ShortID(img.ID), err)
	}

	for _, name := range img.Names {
		if _, err := fmt.Fprintln(r.out, "untagged:", name); err != nil {
			return err
		}
	}

	_, err = fmt.Fprintln(r.out, img.ID)
	return err
}

// removeContainers makes way for the removal of an image. Containers are
// podman's or buildah's: rbuild makes none.
func (r remover) removeContainers(image string) error {
	containers, err := r.st.Storage().Containers()
	if err != nil {
		return fmt.Errorf("listing the containers: %w", err)
	}

	for _, c := range containers {
		if c.ImageID != image {
			continue
		}
		if !r.force {
			return fmt.Errorf("image %s is used by container %s: remove that with podman or buildah, or use --force", cli.ShortID(image), cli.ShortID(c.ID))
		}
		if mounts, err := r.st.Storage().Mounted(c.LayerID); err != nil || mounts > 0 {
			return errors.Join(fmt.Errorf("image %s is used by container %s, which is mounted", cli.ShortID(image), cli.ShortID(c.ID)), err)
		}
		if err := r.st.Freeing(func() error { return r.st.Storage().DeleteContainer(c.ID) }); err != nil {
			return fmt.Errorf("removing container %s: %w", cli.ShortID(c.ID), err)
		}
	}

	return nil
}

// removeIf removes every image that the condition holds for. Removing one can
// make another dangling, so it goes on until nothing changes.
func (r remover) removeIf(condition func(*imageList, *cs.Image) bool) error {
	failed := make(map[string]error)
	for {
		l, err := listImages(r.st)
		if err != nil {
			return err
		}

		removed := false
		for i := range l.images {
			img := &l.images[i]
			if failed[img.ID] != nil || img.ReadOnly || !condition(l, img) {
				continue
			}
			if err := r.remove(img); err != nil {
				failed[img.ID] = err
				continue
			}
			removed = true
		}

		if removed {
			continue
		}

		var errs []error
		for i := range l.images {
			errs = append(errs, failed[l.images[i].ID])
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
