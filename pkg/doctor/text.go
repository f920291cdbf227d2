package doctor

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// None is the mode of a host on which RUN has no namespace to run in.
const None userns.Mode = "none"

// Write prints the report for people: the verdict, then a line for each finding and one for its remedy, what is not well
// first. With color it is for a terminal.
func (r Report) Write(w io.Writer, color bool) error {
	width := 0
	for _, f := range r.Findings {
		width = max(width, len(f.ID))
	}
	var b strings.Builder
	b.WriteString(paint(r.verdict(), r.worst(), color, true) + "\n")
	for _, group := range [][]Status{{Missing, Degraded}, {OK}} {
		gap := "\n"
		for _, f := range r.of(group) {
			status := paint(fmt.Sprintf("%-*s", len(Degraded), f.Status), f.Status, color, false)
			fmt.Fprintf(&b, "%s%s  %-*s  %s\n", gap, status, width, f.ID, oneLine(f.Summary))
			if f.Status != OK && f.Fix != "" {
				fmt.Fprintf(&b, "%*s  fix: %s\n", len(Degraded)+2+width, "", oneLine(f.Fix))
			}
			gap = ""
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// of returns the findings of these statuses, those of the first before those of the next.
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

// oneLine keeps a finding on its line, whatever the system or a name says.
func oneLine(text string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, text)
}

// verdict is the first line.
func (r Report) verdict() string {
	if !r.Run {
		text := "RUN does not work here: " + counted(r.count(Missing), "thing is missing", "things are missing")
		if slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.ID == idWithoutRun && f.Status == OK }) {
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

// modeWords says how builds become root.
func modeWords(m userns.Mode) string {
	words := map[userns.Mode]string{
		userns.Root: "as root of the machine", userns.Identity: "as root of the user namespace that this is",
		userns.Direct: "as root of a user namespace of its own", userns.Helper: "as an ordinary user, with ids mapped by newuidmap",
		userns.Single: "as an ordinary user with a single id: what needs another is refused",
	}
	return words[m]
}

// worst is the status of the whole.
func (r Report) worst() Status {
	for _, s := range []Status{Missing, Degraded} {
		if r.count(s) > 0 {
			return s
		}
	}
	return OK
}

// paint colours a text by its status, as ECMA-48 has it.
func paint(text string, s Status, color, bold bool) string {
	if !color {
		return text
	}
	style := map[Status]string{OK: "32", Degraded: "33", Missing: "31"}[s]
	if bold {
		style = "1;" + style
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}
