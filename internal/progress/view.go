package progress

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"
)

// tailLines is how many of the last lines of each running step the live view shows where there is
// room.
const tailLines = 6

// The styles of ECMA-48 "select graphic rendition" that the view uses.
const (
	bold   = "1"
	faint  = "2"
	red    = "1;31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

// view is the text on a terminal: lines that stay and, below, a few lines for each running step,
// which every frame replaces. The view is pure: it takes the time and the size of the terminal, and
// returns the bytes to write.
type view struct {
	color   bool
	running clock
	steps   []*shown
	above   strings.Builder // lines that stay and were in no frame yet; each ends in a newline
	drawn   []int           // columns of each live line on the screen
	closed  bool
}

type shown struct {
	step *Step
	out  tail
}

// event takes an event into the state; width is that of the terminal, in columns.
func (v *view) event(e Event, width int) {
	e = v.running.note(e)
	switch e.Kind {
	case StepStarted:
		v.steps = append(v.steps, &shown{step: e.Step})
	case StepOutput:
		if s := v.find(e.Step); s != nil {
			s.out.add(e.Data)
		}
	case StepCached:
		v.close(e, cyan, width)
	case StepDone:
		v.close(e, green, width)
	case StepStopped:
		v.close(e, yellow, width)
	case StepFailed:
		if s := v.find(e.Step); s != nil {
			for line := range bytes.Lines(s.out.lines()) {
				v.above.WriteString(printable(line) + "\n")
			}
		}
		v.close(e, red, width)
	case Notice:
		v.above.WriteString(message(e) + "\n")
	case Warning:
		v.above.WriteString(v.paint(yellow, message(e)) + "\n")
	}
}

func (v *view) find(s *Step) *shown {
	for _, sh := range v.steps {
		if sh.step == s {
			return sh
		}
	}
	return nil
}

// close condenses a step to one line.
func (v *view) close(e Event, style string, width int) {
	v.steps = slices.DeleteFunc(v.steps, func(s *shown) bool { return s.step == e.Step })
	head, foot := closingParts(e)
	v.above.WriteString(v.labelled(style, e.Step, fit(head, foot+waited(e), width)) + "\n")
}

// stop condenses the steps that still run, because nobody will close them.
func (v *view) stop(now time.Time, width int) {
	for _, s := range v.steps {
		head := label(s.step) + " STOPPED " + clean(s.step.Text, maxClosing)
		foot := "  " + human(now.Sub(v.running[s.step]))
		v.above.WriteString(v.labelled(yellow, s.step, fit(head, foot, width)) + "\n")
	}
	v.steps, v.closed = nil, true
}

// frame returns the bytes that bring the screen up to date. They remove the live lines of the last
// frame, add the lines that stay, and draw the live lines again. The cursor is hidden only within a
// frame. So whatever ends the program, the cursor is visible then, and below all lines.
func (v *view) frame(now time.Time, width, height int) string {
	live := v.live(now, width, height)
	if v.above.Len() == 0 && len(live) == 0 && len(v.drawn) == 0 {
		return ""
	}

	var b strings.Builder
	b.WriteString("\x1b[?25l")
	rows := 0
	for _, columns := range v.drawn { // lines are shorter than the screen was wide; a narrower one has wrapped them
		rows += max(1, (columns+width-1)/width)
	}
	if rows > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", rows)
	}
	b.WriteString("\r\x1b[J")
	b.WriteString(v.above.String())
	v.above.Reset()
	v.drawn = v.drawn[:0]
	for _, l := range live {
		b.WriteString(v.labelled(l.style, l.step, l.text) + "\n")
		v.drawn = append(v.drawn, runewidth.StringWidth(l.text))
	}

	b.WriteString("\x1b[?25h")

	return b.String()
}

type liveLine struct {
	style string
	step  *Step // nil: the whole line has the style, not only the label
	text  string
}

// live lays out the running steps on at most height-1 lines of less than width columns.
func (v *view) live(now time.Time, width, height int) []liveLine {
	room := height - 1
	if len(v.steps) == 0 || room < 1 || v.closed {
		return nil
	}

	steps, rest := v.steps, 0
	if len(steps) > room {
		rest = len(steps) - (room - 1)
		steps = steps[:room-1]
	}

	each := 0
	if rest == 0 {
		each = min(tailLines, (room-len(steps))/len(steps))
	}
	var lines []liveLine
	for _, s := range steps {
		head := label(s.step) + " " + clean(s.step.Text, maxText)
		foot := "  " + human(now.Sub(v.running[s.step]))
		lines = append(lines, liveLine{bold, s.step, fit(head, foot, width)})
		for _, text := range s.out.last(each) {
			lines = append(lines, liveLine{faint, nil, fit("  "+text, "", width)})
		}
	}

	if rest > 0 {
		lines = append(lines, liveLine{faint, nil, fit(fmt.Sprintf("and %d more steps", rest), "", width)})
	}

	return lines
}

// fit cuts head so that head and foot together fill less than width columns.
func fit(head, foot string, width int) string {
	room := max(1, width-1-runewidth.StringWidth(foot))
	return runewidth.Truncate(head, room, "…") + foot
}

// labelled gives the step's label at the begin of text a style, or without a step the whole text.
func (v *view) labelled(style string, s *Step, text string) string {
	if s == nil {
		return v.paint(style, text)
	}
	if rest, ok := strings.CutPrefix(text, label(s)); ok {
		return v.paint(style, label(s)) + rest
	}
	return text
}

func (v *view) paint(style, text string) string {
	if !v.color {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}
