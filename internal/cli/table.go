package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/docker/go-units"
	podreport "go.podman.io/common/pkg/report"
)

// shortIDLength is how many digits of an ID are shown, as docker does.
const shortIDLength = 12

func ShortID(id string) string { return id[:min(len(id), shortIDLength)] }

func HumanSize(bytes int64) string { return units.HumanSizeWithPrecision(float64(max(bytes, 0)), 3) }

// HumanSince says how long ago t was; nothing for times that are not known.
func HumanSince(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return units.HumanDuration(time.Since(t)) + " ago"
}

// WriteRows prints rows (a slice) through a template of the user, with the
// functions that podman's templates have. "table " before the template asks for
// aligned columns below headings, which are the names of the fields unless
// headings says otherwise.
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

// WriteOne prints one value through a template of the user.
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
