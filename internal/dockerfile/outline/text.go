package outline

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// WriteText writes a table for a terminal, in the form of docker.
func (t Targets) WriteText(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprintln(tw, "TARGET\tDESCRIPTION")
	for _, target := range t.Targets {
		name := target.Name
		switch {
		case target.Default && name == "":
			name = "(default)"
		case target.Default:
			name += " (default)"
		}
		fmt.Fprintf(tw, "%s\t%s\n", clean(name), clean(target.Description))
	}

	return tw.Flush()
}

// WriteText writes tables for a terminal, in the form of docker, and an additional table of caches.
func (o Outline) WriteText(w io.Writer) error {
	var rows [][]string
	if o.Name != "" {
		rows = append(rows, []string{"TARGET:", o.Name})
	}
	if o.Description != "" {
		rows = append(rows, []string{"DESCRIPTION:", o.Description})
	}
	if err := table(w, 1, rows); err != nil {
		return err
	}

	rows = [][]string{{"BUILD ARG", "VALUE", "DESCRIPTION"}}
	for _, a := range o.Args {
		rows = append(rows, []string{a.Name, a.Value, a.Description})
	}
	if err := table(w, 3, rows); err != nil {
		return err
	}

	for _, list := range []struct {
		title  string
		mounts []Mount
	}{{"SECRET", o.Secrets}, {"SSH", o.SSH}} {
		rows = [][]string{{list.title, "REQUIRED"}}
		for _, m := range list.mounts {
			required := ""
			if m.Required {
				required = "true"
			}
			rows = append(rows, []string{m.Name, required})
		}
		if err := table(w, 3, rows); err != nil {
			return err
		}
	}

	rows = [][]string{{"CACHE"}}
	for _, c := range o.Cache {
		rows = append(rows, []string{c.ID})
	}

	return table(w, 3, rows)
}

// table writes rows and an empty line. If rows has only the title, table writes nothing.
func table(w io.Writer, padding int, rows [][]string) error {
	if len(rows) == 0 || len(rows) == 1 && padding > 1 {
		return nil
	}

	tw := tabwriter.NewWriter(w, 0, 0, padding, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			end := "\t"
			if i == len(row)-1 {
				end = "\n"
			}
			fmt.Fprint(tw, clean(cell), end)
		}
	}

	fmt.Fprintln(tw)
	return tw.Flush()
}

// clean escapes characters of the Dockerfile that are not graphic, in the form of Go: \x1b.
func clean(text string) string {
	var b strings.Builder
	for _, r := range text {
		if strconv.IsGraphic(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
	}
	return b.String()
}
