package progress

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// maxText and maxClosing bound the instruction in the line that opens and in the one that closes a step, in bytes.
	maxText    = 1000
	maxClosing = 100
)

// label is what stands before everything about a step: "[build 4/7]", or "[4/7]" without a stage name.
func label(s *Step) string {
	stage := ""
	if s.Stage != "" {
		stage = clean(s.Stage, maxClosing) + " "
	}
	return fmt.Sprintf("[%s%d/%d]", stage, s.Number, s.Total)
}

// opening is the line that announces a step.
func opening(s *Step) string {
	return label(s) + " " + clean(s.Text, maxText)
}

// closing is the line that ends a step: "[build 4/7] RUN make  1.2s", with CACHED or FAILED before the instruction.
func closing(e Event) string {
	text := clean(e.Step.Text, maxClosing)
	switch e.Kind {
	case StepCached:
		return label(e.Step) + " CACHED " + text
	case StepFailed:
		return label(e.Step) + " FAILED " + text + "  " + human(e.Elapsed)
	default:
		return label(e.Step) + " " + text + "  " + human(e.Elapsed)
	}
}

// message is the text of a notice or warning, on one or several lines, without the last newline.
func message(e Event) string {
	var lines []string
	for line := range strings.SplitSeq(strings.TrimRight(e.Text, "\n"), "\n") {
		lines = append(lines, clean(line, maxText*10))
	}
	text := strings.Join(lines, "\n")
	if e.Kind == Warning {
		text = "Warning: " + text
	}
	if e.Step != nil {
		text = label(e.Step) + " " + text
	}
	return text
}

// human writes a duration for people: 0.3s, 59.9s, 1m02s, 2h05m.
func human(d time.Duration) string {
	if tenths := d.Round(100 * time.Millisecond); tenths < time.Minute {
		return fmt.Sprintf("%.1fs", max(tenths, 0).Seconds())
	}
	if d = d.Round(time.Second); d < time.Hour {
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	}
	d = d.Round(time.Minute)
	return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
}

// clean makes text from a Dockerfile fit for one line of a terminal: what is not graphic (control characters, marks that
// change the direction of writing, bytes that are not UTF-8) is escaped as in Go, tabs and newlines become spaces, and
// what goes beyond limit bytes becomes an ellipsis.
func clean(text string, limit int) string {
	var b strings.Builder
	for i, r := range text {
		if b.Len() >= limit {
			return b.String() + "…"
		}
		switch {
		case r == '\t' || r == '\n':
			b.WriteByte(' ')
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case strconv.IsGraphic(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
	}
	return b.String()
}
