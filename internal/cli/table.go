package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/docker/go-units"
	podreport "go.podman.io/common/pkg/report"
)

// shortIDLength is the number of digits of an ID that lists show, as in docker.
const shortIDLength = 12

// ShortID returns the first 12 digits of an image ID, for example "5d0da3dc9764".
func ShortID(id string) string { return id[:min(len(id), shortIDLength)] }

// HumanSize returns a size with three digits and a unit of 1000, for example "1.23MB". A negative size is "0B".
func HumanSize(bytes int64) string { return units.HumanSizeWithPrecision(float64(max(bytes, 0)), 3) }

// HumanSince returns the time since t in words, for example "3 hours ago". It is empty for the zero time, which is an unknown time.
func HumanSince(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return units.HumanDuration(time.Since(t)) + " ago"
}

// WriteRows prints rows, which is a slice, through a Go template of the user, for example "table {{.ID}} {{.Size}}". The
// template can call the functions of podman's templates. The word "table" at its start aligns the columns and prints
// headings. The heading of a field is the name of the field, or its value in headings. row is a value of the type of rows.
func WriteRows(w io.Writer, format string, rows, row any, headings map[string]string) error {
	rpt, err := podreport.New(w, "format").Parse(podreport.OriginUser, format)
	if err != nil {
		return fmt.Errorf("--format: %w", err)
	}

	if rpt.RenderTable && rpt.RenderHeaders {
		if err := rpt.Execute(podreport.Headers(row, headings)); err != nil {
			return fmt.Errorf("--format: %w", err)
		}
	}

	if err := rpt.Execute(rows); err != nil {
		return fmt.Errorf("--format: %w", err)
	}

	rpt.Flush()
	return nil
}

// WriteOne prints one value through a Go template of the user, and ends the output with a line feed.
func WriteOne(w io.Writer, format string, v any) error {
	tmpl, err := podreport.NewTemplate("format").Parse(podreport.NormalizeFormat(format))
	if err != nil {
		return fmt.Errorf("--format: %w", err)
	}
	var out strings.Builder
	if err := tmpl.Execute(&out, v); err != nil {
		return fmt.Errorf("--format: %w", err)
	}
	_, err = fmt.Fprintln(w, strings.TrimSuffix(out.String(), "\n"))
	return err
}

// WantsJSON reports whether --format asks for JSON.
func WantsJSON(format string) bool { return podreport.IsJSON(format) }
