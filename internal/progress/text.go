package progress

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// maxText and maxClosing bound the instruction in the line that opens a step, and in the line
	// that closes a step, in bytes.
	maxText    = 1000
	maxClosing = 100
)

// label is the beginning of each line about a step: "[build 4/7]", or "[4/7]" without a stage name.
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

// closing is the line that ends a step: "[build 4/7] RUN make  1.2s", with CACHED or FAILED before
// the instruction.
func closing(e Event) string {
	head, foot := closingParts(e)
	return head + foot
}

// closingParts splits closing into head, which may be cut to the width of a terminal, and foot,
// which must stay.
func closingParts(e Event) (head, foot string) {
	text := clean(e.Step.Text, maxClosing)
	if e.Kind == StepCached {
		return label(e.Step) + " CACHED " + text, ""
	}
	return label(e.Step) + endings[e.Kind] + " " + text, "  " + human(e.Elapsed)
}

// longWait is the time from which a wait is shown.
const longWait = 500 * time.Millisecond

// waited is the end of the line that closes a step: " (waited 2.1s)" if the step waited long for
// others. A cached step shows no time at all.
func waited(e Event) string {
	if e.Waited < longWait || e.Kind == StepCached {
		return ""
	}
	return " (waited " + human(e.Waited) + ")"
}

// endings are the words for a step that did not succeed, in the line that closes the step.
var endings = map[Kind]string{StepFailed: " FAILED", StepStopped: " STOPPED"}

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

// Lines makes lines of text that others wrote, a Dockerfile or a server, fit for a terminal, as
// clean does.
func Lines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = Line(line)
	}
	return strings.Join(lines, "\n")
}

// clean makes text from a Dockerfile fit for one line of a terminal. Characters that are not
// graphic (control characters, marks that change the direction of writing, bytes that are not
// UTF-8) are escaped as in Go. Tabs and newlines become spaces. Text beyond limit bytes becomes an
// ellipsis.
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
		default:
			escapeRune(&b, r)
		}
	}

	return b.String()
}

// printable makes a line of output fit for the live view: escape sequences and control characters
// are removed, a tab becomes a space, and text before the last carriage return, which was
// overwritten, is left out. Only the first 4 KiB of the line are used.
func printable(line []byte) string {
	const longest = 4 << 10
	line = bytes.TrimRight(line, "\r\n")
	if i := bytes.LastIndexByte(line, '\r'); i >= 0 {
		line = line[i+1:]
	}
	line = line[:min(len(line), longest)]
	var b strings.Builder
	for len(line) > 0 {
		if line[0] == 0x1b {
			line = line[escapeLength(line):]
			continue
		}

		r, n := utf8.DecodeRune(line)
		switch {
		case r == '\t':
			b.WriteByte(' ')
		case strconv.IsGraphic(r):
			b.WriteRune(r)
		}
		line = line[n:]
	}

	return b.String()
}

// escapeLength is the length of the escape sequence that s begins with, by ECMA-48: CSI (ESC [ ...
// letter), the strings of OSC, DCS, SOS, PM and APC up to ST or, as xterm has it, BEL, and
// sequences of intermediate bytes and a final one.
func escapeLength(s []byte) int {
	if len(s) < 2 {
		return len(s)
	}

	final := func(from int, last func(c byte) bool) int {
		for i := from; i < len(s); i++ {
			if last(s[i]) {
				return i + 1
			}
		}
		return len(s)
	}

	switch s[1] {
	case '[':
		return final(2, func(c byte) bool { return c >= 0x40 && c <= 0x7e })
	case ']', 'P', 'X', '^', '_':
		end := final(2, func(c byte) bool { return c == 0x07 || c == 0x1b })
		if end < len(s) && s[end-1] == 0x1b && s[end] == '\\' {
			end++
		}
		return end
	default:
		return final(1, func(c byte) bool { return c < 0x20 || c > 0x2f })
	}
}
