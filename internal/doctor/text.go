package doctor

import (
	"fmt"
	"io"
	"slices"

	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// None is the mode of a host on which no namespace can be made for RUN.
const None userns.Mode = "none"

// Write prints the report for people: the verdict, then a line for each finding and a line for the
// remedy. Findings that are not OK come first. If w is a progress.Stream with colours, the verdict
// and each status have the colour of the status. Control characters are escaped.
func (r Report) Write(w io.Writer) error {
	width := 0
	for _, f := range r.Findings {
		width = max(width, len(f.ID))
	}

	pieces := []progress.Piece{{Style: progress.Bold.And(styles[r.worst()]), Text: r.verdict()}, {Text: "\n"}}
	for _, group := range [][]Status{{Missing, Degraded}, {OK}} {
		gap := "\n"
		for _, f := range r.of(group) {
			status := fmt.Sprintf("%-*s", len(Degraded), f.Status)
			text := fmt.Sprintf("  %-*s  %s\n", width, f.ID, progress.Line(f.Summary))
			if f.Status != OK && f.Fix != "" {
				text += fmt.Sprintf("%*s  fix: %s\n", len(Degraded)+2+width, "", progress.Line(f.Fix))
			}
			pieces = append(pieces,
				progress.Piece{Text: gap},
				progress.Piece{Style: styles[f.Status], Text: status},
				progress.Piece{Text: text},
			)
			gap = ""
		}
	}

	return progress.Print(w, pieces...)
}

// styles are the colours of the statuses.
var styles = map[Status]progress.Style{OK: progress.Green, Degraded: progress.Yellow, Missing: progress.Red}

// of returns the findings with these statuses, in the order of the statuses.
func (r Report) of(statuses []Status) (out []Finding) {
	for _, s := range statuses {
		for _, f := range r.Findings {
			if f.Status == s {
				out = append(out, f)
			}
		}
	}
	return out
}

// verdict returns the first line of the report.
func (r Report) verdict() string {
	if !r.Run {
		text := "RUN does not work here: " + counted(r.count(Missing), "thing is missing", "things are missing")
		if slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.ID == WithoutRun && f.Status == OK }) {
			text += "; Dockerfiles without RUN are built"
		}
		return text
	}

	text := "RUN works here, " + modeWords(r.Mode)
	if n := r.count(Missing); n > 0 {
		text += "; " + counted(n, "registry cannot be used", "registries cannot be used")
	}
	if n := r.count(Degraded); n > 0 {
		text += "; " + counted(n, "thing is degraded", "things are degraded")
	}
	return text
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// modeWords describes how builds become root.
func modeWords(m userns.Mode) string {
	words := map[userns.Mode]string{
		userns.Root:     "as root of the machine",
		userns.Identity: "as root of the user namespace that this is",
		userns.Direct:   "as root of a user namespace of its own",
		userns.Helper:   "as an ordinary user, with ids mapped by newuidmap",
		userns.Single:   "as an ordinary user with a single id: what needs another is refused",
	}
	return words[m]
}

// worst returns the worst status of all findings.
func (r Report) worst() Status {
	for _, s := range []Status{Missing, Degraded} {
		if r.count(s) > 0 {
			return s
		}
	}
	return OK
}
