package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	cs "go.podman.io/storage"

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/transfer"
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
		Short:   "List the images of the store",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, ok := imageOrders[f.sort]; !ok {
				return fmt.Errorf("--sort %q: choose created, id, repository, size or tag", f.sort)
			}

			list := func(st *containers.Store) error {
				kept, err := a.keptImages()
				if err != nil {
					return err
				}
				return f.list(cmd.OutOrStdout(), st, kept, args, a.RegistryOptions())
			}

			err := a.WithStore(cmd.Context(), func(_ context.Context, st *containers.Store) error { return list(st) })
			if err == nil || a.State != nil {
				return err
			}
			if _, err := a.WithoutNamespace(err); err != nil {
				return err
			}
			return list(nil)
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

// list prints the images of the store, and those that builds without a namespace have kept. st is nil where there can be no
// store. A filter chooses from the store only.
func (f imagesFlags) list(w io.Writer, st *containers.Store, kept []transfer.KeptImage, args []string, o transfer.Options) error {
	if len(f.filters) > 0 {
		kept = nil
	}
	if len(args) > 0 {
		kept = slices.DeleteFunc(kept, func(img transfer.KeptImage) bool { return !isKept(img, args[0]) })
	}
	l, chosen, err := f.choose(st, args, o)
	if err != nil && (len(kept) == 0 || !errors.Is(err, transfer.ErrNotFound)) {
		return err
	}

	var all []listed
	for _, img := range chosen {
		all = append(all, listed{img: img, size: l.size(img)})
	}
	for i := range kept {
		all = append(all, keptListed(&kept[i]))
	}
	slices.SortStableFunc(all, imageOrders[f.sort])
	switch {
	case f.asJSON:
		images := []buildahImage{}
		for _, e := range all {
			images = append(images, e.buildah(l))
		}
		return progress.WriteJSON(w, images)
	case cli.WantsJSON(f.format):
		images := []podmanImage{}
		for _, e := range all {
			images = append(images, e.podman(l))
		}
		return progress.WriteJSON(w, images)
	case f.quiet:
		return printIDs(w, all, !f.noTrunc)
	}

	rows := []imageRow{}
	for _, e := range all {
		rows = append(rows, e.rows(l, !f.noTrunc)...)
	}
	if order := rowOrders[f.sort]; order != nil {
		slices.SortStableFunc(rows, order)
	}
	if f.format != "" {
		return cli.WriteRows(w, f.format, rows, imageRow{}, map[string]string{"ID": "IMAGE ID", "CreatedSince": "CREATED", "Name": "REPOSITORY"})
	}

	return f.table(w, rows)
}

// listed is an image that is listed: of the store, or kept by a build without a namespace.
type listed struct {
	img  *cs.Image // of a kept image the ID, the names and the time
	size int64     // bytes
	kept *transfer.KeptImage
}

func (e listed) buildah(l *imageList) buildahImage {
	if e.kept != nil {
		return keptBuildah(*e.kept)
	}
	return l.buildah(e.img)
}

func (e listed) podman(l *imageList) podmanImage {
	if e.kept != nil {
		return keptPodman(*e.kept)
	}
	return l.podman(e.img)
}

func (e listed) rows(l *imageList, truncate bool) []imageRow {
	if e.kept != nil {
		return keptRows(*e.kept, truncate)
	}
	return l.rows(e.img, truncate)
}

// imageOrders are the orders of --sort, of images. Images that are equal stay in the order of listImages.
var imageOrders = map[string]func(a, b listed) int{
	"created":    func(a, b listed) int { return b.img.Created.Compare(a.img.Created) },
	"id":         func(a, b listed) int { return strings.Compare(a.img.ID, b.img.ID) },
	"repository": func(a, b listed) int { return slices.Compare(a.img.Names, b.img.Names) },
	"size":       func(a, b listed) int { return cmp.Compare(a.size, b.size) },
	"tag":        func(a, b listed) int { return slices.Compare(a.img.Names, b.img.Names) },
}

// rowOrders are the orders of --sort for rows, of which an image with several names has several.
var rowOrders = map[string]func(a, b imageRow) int{
	"repository": func(a, b imageRow) int { return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Tag, b.Tag)) },
	"tag":        func(a, b imageRow) int { return strings.Compare(a.Tag, b.Tag) },
}

// choose finds the images of the store that are to be listed.
func (f imagesFlags) choose(st *containers.Store, args []string, o transfer.Options) (l *imageList, chosen []*cs.Image, err error) {
	if st == nil {
		if len(args) > 0 {
			err = fmt.Errorf("%s: %w", args[0], transfer.ErrNotFound)
		}
		return nil, nil, err
	}
	if l, err = listImages(st); err != nil {
		return nil, nil, err
	}

	keep, err := l.filters(f.filters, o)
	if err != nil {
		return nil, nil, err
	}

	wanted := func(*cs.Image) bool { return true }
	if len(args) > 0 {
		if wanted, err = byArgument(st, args[0], o); err != nil {
			return nil, nil, err
		}
	}

	for i := range l.images {
		img := &l.images[i]
		if wanted(img) && keep(img) && (f.all || len(f.filters) > 0 || !l.intermediate(img)) {
			chosen = append(chosen, img)
		}
	}

	return l, chosen, nil
}

// byArgument chooses what "rbuild images NAME" lists: the image of that name or
// ID, else those whose names the argument matches.
func byArgument(st *containers.Store, arg string, o transfer.Options) (filter, error) {
	img, _, err := transfer.Lookup(st.Storage(), arg, o)
	if err == nil {
		return func(other *cs.Image) bool { return other.ID == img.ID }, nil
	}

	matched := func(img *cs.Image) bool {
		for _, name := range img.Names {
			if matchesReference(arg, name) {
				return true
			}
		}
		return false
	}

	images, listErr := st.Storage().Images()
	if listErr != nil {
		return nil, fmt.Errorf("listing the images: %w", listErr)
	}

	for i := range images {
		if matched(&images[i]) {
			return matched, nil
		}
	}

	return nil, err
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

func printIDs(w io.Writer, images []listed, truncate bool) error {
	for _, e := range images {
		id := "sha256:" + e.img.ID
		if truncate {
			id = cli.ShortID(e.img.ID)
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

func (l *imageList) buildah(img *cs.Image) buildahImage {
	return buildahImage{
		ID: img.ID, Names: img.Names, Digest: l.digest(img, "").String(),
		CreatedAt: cli.HumanSince(img.Created), Size: cli.HumanSize(l.size(img)),
		Created: img.Created.Unix(), CreatedAtRaw: img.Created, ReadOnly: img.ReadOnly, History: img.NamesHistory,
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

func (l *imageList) podman(img *cs.Image) podmanImage {
	return podmanImage{
		ID: img.ID, RepoTags: img.Names, RepoDigests: transfer.RepoDigests(l.st.Storage(), img), Created: img.Created.Unix(),
		CreatedAt: img.Created, Size: l.size(img), Labels: l.config(img.ID).Config.Labels, Names: img.Names,
		Digest: l.digest(img, ""), History: img.NamesHistory, Dangling: l.dangling(img), ReadOnly: img.ReadOnly,
	}
}
