package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/engine"
	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/progress"
)

// imagesFlags are the flags of rbuild images; they are buildah's.
type imagesFlags struct {
	all, digests, history bool
	asJSON, quiet         bool
	noHeading, noTrunc    bool
	filters               []string
	format                string
	sort                  string
}

func newImagesCmd(a *app) *cobra.Command {
	var f imagesFlags
	cmd := &cobra.Command{
		Use:     "images [flags] [IMAGE]",
		Aliases: []string{"image-list"},
		Short:   "List images",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, ok := imageOrders[f.sort]; !ok {
				return fmt.Errorf("--sort %q: choose created, id, repository, size or tag", f.sort)
			}

			return a.WithImages(cmd.Context(), func(_ context.Context, stores engine.Stores) error {
				return f.list(cmd.OutOrStdout(), stores, args, a.RegistryOptions().Names)
			})
		},
	}

	fs := cmd.Flags()
	fs.BoolVarP(&f.all, "all", "a", false, "Show intermediate images of builds by podman and buildah too")
	fs.BoolVar(&f.digests, "digests", false, "Show digests of manifests")
	fs.StringArrayVarP(&f.filters, "filter", "f", nil, "Show only images for which KEY=VALUE holds: dangling, intermediate, reference, id, label, before, since, until, readonly, containers")
	fs.StringVar(&f.format, "format", "", "Print with a Go template, or json")
	fs.BoolVar(&f.history, "history", false, "Show names that images had before")
	fs.BoolVar(&f.asJSON, "json", false, "Print JSON as buildah does")
	fs.BoolVarP(&f.noHeading, "noheading", "n", false, "Print no headings")
	fs.BoolVar(&f.noTrunc, "no-trunc", false, "Print whole IDs")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "Print IDs only")
	fs.StringVar(&f.sort, "sort", "created", "Order of the list: created (the newest first), id, repository, size or tag")

	return cmd
}

// list prints the images of the stores.
func (f imagesFlags) list(w io.Writer, stores engine.Stores, args []string, n images.Names) error {
	l, all, err := f.choose(stores, args, n)
	if err != nil {
		return err
	}
	slices.SortStableFunc(all, imageOrders[f.sort])

	switch {
	case f.asJSON:
		list := []buildahImage{}
		for _, img := range all {
			list = append(list, img.buildah())
		}
		return progress.WriteJSON(w, list)
	case cli.WantsJSON(f.format):
		list := []podmanImage{}
		for _, img := range all {
			list = append(list, l.podman(img))
		}
		return progress.WriteJSON(w, list)
	case f.quiet:
		return printIDs(w, all, !f.noTrunc)
	}

	rows := []imageRow{}
	for _, img := range all {
		rows = append(rows, img.rows(!f.noTrunc)...)
	}
	if order := rowOrders[f.sort]; order != nil {
		slices.SortStableFunc(rows, order)
	}
	if f.format != "" {
		return cli.WriteRows(w, f.format, rows, imageRow{}, map[string]string{"ID": "IMAGE ID", "CreatedSince": "CREATED", "Name": "REPOSITORY"})
	}

	return f.table(w, rows)
}

// imageOrders are the orders of --sort for images. Images that are equal stay in the order of
// listImages.
var imageOrders = map[string]func(a, b *listed) int{
	"created":    func(a, b *listed) int { return b.Created.Compare(a.Created) },
	"id":         func(a, b *listed) int { return strings.Compare(a.ID, b.ID) },
	"repository": func(a, b *listed) int { return slices.Compare(a.Names, b.Names) },
	"size":       func(a, b *listed) int { return cmp.Compare(a.Size, b.Size) },
	"tag":        func(a, b *listed) int { return slices.Compare(a.Names, b.Names) },
}

// rowOrders are the orders of --sort for rows, of which an image with several names has several.
var rowOrders = map[string]func(a, b imageRow) int{
	"repository": func(a, b imageRow) int { return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Tag, b.Tag)) },
	"tag":        func(a, b imageRow) int { return strings.Compare(a.Tag, b.Tag) },
}

// choose returns the images that the argument and the filters select.
func (f imagesFlags) choose(stores engine.Stores, args []string, n images.Names) (l *imageList, chosen []*listed, err error) {
	if l, err = listImages(stores); err != nil {
		return nil, nil, err
	}
	keep, err := l.filters(f.filters, n)
	if err != nil {
		return nil, nil, err
	}

	wanted := func(*listed) bool { return true }
	if len(args) > 0 {
		if wanted, err = l.byArgument(args[0], n); err != nil {
			return nil, nil, err
		}
	}

	for _, img := range l.images {
		if wanted(img) && keep(img) && (f.all || len(f.filters) > 0 || !l.intermediate(img)) {
			chosen = append(chosen, img)
		}
	}
	return l, chosen, nil
}

// byArgument selects the images of "rbuild images NAME", in each store the image of that name or
// ID. A store without such an image gives the images whose names match the argument as a pattern.
func (l *imageList) byArgument(arg string, n images.Names) (filter, error) {
	exact := make(map[images.Store]string) // ID
	var notFound error
	for _, st := range l.stores {
		img, _, err := images.Lookup(st, arg, n)
		if err != nil {
			notFound = cmp.Or(notFound, err)
			continue
		}
		exact[st] = img.ID
	}

	wanted := func(img *listed) bool {
		if id, ok := exact[img.store]; ok {
			return img.ID == id
		}
		return slices.ContainsFunc(img.Names, func(name string) bool { return matchesReference(arg, name) })
	}
	if !slices.ContainsFunc(l.images, wanted) {
		return nil, notFound
	}
	return wanted, nil
}

// table prints buildah's columns.
func (f imagesFlags) table(w io.Writer, rows []imageRow) error {
	tw := tabwriter.NewWriter(w, 0, 1, 3, ' ', 0)
	if !f.noHeading {
		fmt.Fprintln(tw, "REPOSITORY\tTAG\t"+column(f.digests, "DIGEST\t")+"IMAGE ID\tCREATED\tSIZE"+column(f.history, "\tHISTORY"))
	}
	for _, r := range rows {
		fmt.Fprintln(tw, progress.Line(r.Name)+"\t"+progress.Line(r.Tag)+"\t"+column(f.digests, r.Digest+"\t")+r.ID+"\t"+r.Created+"\t"+r.Size+column(f.history, "\t"+progress.Line(r.History)))
	}
	return tw.Flush() // and with it what Fprintln could not write
}

func column(shown bool, text string) string {
	if shown {
		return text
	}
	return ""
}

func printIDs(w io.Writer, all []*listed, truncate bool) error {
	for _, img := range all {
		id := "sha256:" + img.ID
		if truncate {
			id = cli.ShortID(img.ID)
		}
		if _, err := fmt.Fprintln(w, id); err != nil {
			return err
		}
	}
	return nil
}

// buildahImage is an image in the output of buildah images --json.
type buildahImage struct {
	ID           string    `json:"id"`
	Names        []string  `json:"names"`
	Digest       string    `json:"digest"`
	CreatedAt    string    `json:"createdat"`
	Size         string    `json:"size"`
	Created      int64     `json:"created"`
	CreatedAtRaw time.Time `json:"createdatraw"`
	ReadOnly     bool      `json:"readonly"`
	History      []string  `json:"history"`
}

func (img *listed) buildah() buildahImage {
	return buildahImage{
		ID:           img.ID,
		Names:        img.Names,
		Digest:       img.digest("").String(),
		CreatedAt:    cli.HumanSince(img.Created),
		Size:         cli.HumanSize(img.Size),
		Created:      img.Created.Unix(),
		CreatedAtRaw: img.Created,
		ReadOnly:     img.ReadOnly,
		History:      img.NamesHistory,
	}
}

// podmanImage is an image in the output of podman images --format json.
type podmanImage struct {
	ID          string `json:"Id"`
	RepoTags    []string
	RepoDigests []string
	Created     int64
	CreatedAt   time.Time
	Size        int64
	Labels      map[string]string
	Names       []string
	Digest      digest.Digest
	History     []string
	Dangling    bool `json:",omitempty"`
	ReadOnly    bool `json:",omitempty"`
}

func (l *imageList) podman(img *listed) podmanImage {
	return podmanImage{
		ID:          img.ID,
		RepoTags:    img.Names,
		RepoDigests: images.RepoDigests(img.document().origins),
		Created:     img.Created.Unix(),
		CreatedAt:   img.Created,
		Size:        img.Size,
		Labels:      img.labels(),
		Names:       img.Names,
		Digest:      img.digest(""),
		History:     img.NamesHistory,
		Dangling:    l.dangling(img),
		ReadOnly:    img.ReadOnly,
	}
}
