package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/engine"
	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/progress"
)

// historyFlags are the flags of rbuild history; they are podman's.
type historyFlags struct {
	format         string
	human          bool
	noTrunc, quiet bool
}

func newHistoryCmd(a *app) *cobra.Command {
	var f historyFlags
	cmd := &cobra.Command{
		Use:   "history [flags] IMAGE",
		Short: "Show the steps that an image was built by, the last step first",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.WithImages(cmd.Context(), func(_ context.Context, stores engine.Stores) error {
				st, img, _, err := stores.Lookup(args[0], a.RegistryOptions().Names)
				if err != nil {
					return err
				}
				content, err := st.ReadImage(img.ID)
				if err != nil {
					return err
				}
				steps, err := imageHistory(img, content)
				if err != nil {
					return err
				}
				return f.print(cmd.OutOrStdout(), steps)
			})
		},
	}

	fs := cmd.Flags()
	fs.StringVar(&f.format, "format", "", "Print with a Go template, or json")
	fs.BoolVarP(&f.human, "human", "H", true, "Print sizes and times in words")
	fs.BoolVar(&f.noTrunc, "no-trunc", false, "Print whole IDs and steps")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "Print IDs only")

	return cmd
}

// historyStep is one step, with the names that podman's JSON has.
type historyStep struct {
	ID         string    `json:"id"` // of the image, with the last step; else "<missing>"
	Created    time.Time `json:"created"`
	CreatedBy  string    `json:"CreatedBy"`
	Size       int64     `json:"size"` // of the step's layer, uncompressed
	Comment    string    `json:"comment"`
	Tags       []string  `json:"tags,omitempty"`
	EmptyLayer bool      `json:"emptyLayer"`
}

const missingID = "<missing>"

// imageHistory joins the history of an image with the sizes of its layers, the last step first.
// Layers that the history does not mention follow without text.
func imageHistory(img images.Image, content images.Content) ([]historyStep, error) {
	if err := content.Verify(imageTitle(img)); err != nil {
		return nil, err
	}
	var config ocispec.Image
	if err := json.Unmarshal(content.Config, &config); err != nil {
		return nil, fmt.Errorf("reading the config of image %s: %w", img.ID, err)
	}

	chain := content.Layers
	var steps []historyStep
	for _, h := range slices.Backward(config.History) {
		step := historyStep{ID: missingID, CreatedBy: h.CreatedBy, Comment: h.Comment, EmptyLayer: h.EmptyLayer}
		if h.Created != nil {
			step.Created = *h.Created
		}
		if !h.EmptyLayer && len(chain) > 0 {
			step.Size = chain[len(chain)-1].Size
			chain = chain[:len(chain)-1]
		}
		steps = append(steps, step)
	}

	for _, layer := range slices.Backward(chain) {
		steps = append(steps, historyStep{ID: missingID, Created: layer.Created, Size: layer.Size})
	}
	if len(steps) > 0 {
		steps[0].ID = img.ID
		steps[0].Tags = img.Names
	}

	return steps, nil
}

// imageTitle returns the name of an image in messages: its first name, or its ID.
func imageTitle(img images.Image) string {
	if len(img.Names) > 0 {
		return img.Names[0]
	}
	return img.ID
}

// historyRow is a step as a template or the table shows it.
type historyRow struct {
	ID, Created, CreatedAt, CreatedSince, CreatedBy, Size, Comment string
	Tags                                                           []string
}

func (f historyFlags) row(s historyStep) historyRow {
	r := historyRow{
		ID: s.ID, CreatedBy: strings.Join(strings.Fields(s.CreatedBy), " "), Comment: s.Comment, Tags: s.Tags,
		CreatedAt: s.Created.Format(time.RFC3339), CreatedSince: cli.HumanSince(s.Created), Size: strconv.FormatInt(s.Size, 10),
	}

	r.Created = r.CreatedAt
	if f.human {
		r.Created, r.Size = r.CreatedSince, cli.HumanSize(s.Size)
	}
	if !f.noTrunc {
		r.ID = cli.ShortID(r.ID)
		r.CreatedBy = truncate(r.CreatedBy, 45)
	}

	return r
}

func truncate(text string, length int) string {
	runes := []rune(text)
	if len(runes) <= length {
		return text
	}
	return string(runes[:length-1]) + "…"
}

func (f historyFlags) print(w io.Writer, steps []historyStep) error {
	if cli.WantsJSON(f.format) {
		return progress.WriteJSON(w, steps)
	}

	rows := make([]historyRow, 0, len(steps))
	for _, s := range steps {
		rows = append(rows, f.row(s))
	}
	if f.quiet {
		for _, r := range rows {
			if _, err := fmt.Fprintln(w, r.ID); err != nil {
				return err
			}
		}
		return nil
	}
	if f.format != "" {
		return cli.WriteRows(w, f.format, rows, historyRow{}, map[string]string{"CreatedSince": "CREATED", "CreatedBy": "CREATED BY"})
	}

	tw := tabwriter.NewWriter(w, 0, 1, 3, ' ', 0)
	fmt.Fprintln(tw, "ID\tCREATED\tCREATED BY\tSIZE\tCOMMENT")
	for _, r := range rows {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", r.ID, r.Created, progress.Line(r.CreatedBy), r.Size, progress.Line(r.Comment))
	}

	return tw.Flush() // and with it what was not written above
}
