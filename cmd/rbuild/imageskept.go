package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	cs "go.podman.io/storage"

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/engine"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// layoutDir returns the directory of the images of builds without a namespace, or "" if the store has no directory.
func (a *app) layoutDir() string {
	root, _, _ := containers.Locate(a.Store) // an error is about the driver, which a layout does not need
	if root == "" {
		return ""
	}
	return filepath.Join(root, engine.LayoutName)
}

// keptImages returns the images of builds without a namespace.
func (a *app) keptImages() ([]transfer.KeptImage, error) {
	dir := a.layoutDir()
	if dir == "" {
		return nil, nil
	}
	return transfer.ListLayout(dir)
}

// isKept reports whether a user means the image by arg: a name, a part of a name, or the beginning of the ID.
func isKept(img transfer.KeptImage, arg string) bool {
	if id := strings.TrimPrefix(arg, "sha256:"); len(id) >= 3 && strings.HasPrefix(img.ID, id) {
		return true
	}
	return slices.ContainsFunc(img.Names, func(name string) bool {
		named, err := transfer.NormalizeTag(arg)
		return matchesReference(arg, name) || err == nil && named.String() == name
	})
}

// lookup is registry.Lookup. The error for an image that only a build without a namespace has kept says where it is.
func (a *app) lookup(st cs.Store, name string) (*cs.Image, string, error) {
	img, found, err := transfer.Lookup(st, name, a.RegistryOptions())
	if !errors.Is(err, transfer.ErrNotFound) {
		return img, found, err
	}
	kept, listErr := a.keptImages()
	if listErr == nil && slices.ContainsFunc(kept, func(img transfer.KeptImage) bool { return isKept(img, name) }) {
		err = fmt.Errorf("%w; it is in the layout %s of builds without a namespace: push it from there with rbuild push", err, a.layoutDir())
	}
	return img, found, err
}

// keptListed is an image of the layout among those that are listed.
func keptListed(img *transfer.KeptImage) listed {
	return listed{img: &cs.Image{ID: img.ID, Names: img.Names, Created: keptTime(*img)}, size: img.Size, kept: img}
}

// keptRows makes the lines of rbuild images for an image of the layout.
func keptRows(img transfer.KeptImage, truncate bool) []imageRow {
	created := keptTime(img)
	row := imageRow{
		ID: "sha256:" + img.ID, Digest: img.Digest.String(), Names: img.Names, Created: cli.HumanSince(created), CreatedSince: cli.HumanSince(created),
		CreatedAt: created.UTC().Format("2006-01-02 15:04:05 -0700 MST"), CreatedAtRaw: created, Size: cli.HumanSize(img.Size),
		Dangling: len(img.Names) == 0, History: none, Labels: img.Config.Config.Labels, Name: none, Repository: none, Tag: none,
	}

	if truncate {
		row.ID = cli.ShortID(img.ID)
	}
	if len(img.Names) == 0 {
		return []imageRow{row}
	}

	var rows []imageRow
	for _, name := range img.Names {
		r := row
		r.Name, r.Tag = splitName(name)
		r.Repository = r.Name
		rows = append(rows, r)
	}

	return rows
}

func keptTime(img transfer.KeptImage) time.Time {
	if img.Config.Created == nil {
		return time.Unix(0, 0)
	}
	return *img.Config.Created
}

func keptBuildah(img transfer.KeptImage) buildahImage {
	created := keptTime(img)
	return buildahImage{
		ID: img.ID, Names: img.Names, Digest: img.Digest.String(), CreatedAt: cli.HumanSince(created), Size: cli.HumanSize(img.Size),
		Created: created.Unix(), CreatedAtRaw: created,
	}
}

func keptPodman(img transfer.KeptImage) podmanImage {
	created := keptTime(img)
	return podmanImage{
		ID: img.ID, RepoTags: img.Names, RepoDigests: []string{}, Created: created.Unix(), CreatedAt: created, Size: img.Size,
		Labels: img.Config.Config.Labels, Names: img.Names, Digest: img.Digest, Dangling: len(img.Names) == 0,
	}
}
