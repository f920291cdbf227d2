package progress

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mattn/go-runewidth"
)

// screen is as much of a terminal as the live view needs: it wraps at its width, and fails on any sequence that it does
// not know. Lines that scrolled out at the top stay in rows, out of reach for the cursor.
type screen struct {
	t             *testing.T
	width, height int
	rows          [][]rune
	x, y          int
	hidden        bool
	styled        bool
}

func newScreen(t *testing.T, width, height int) *screen {
	return &screen{t: t, width: width, height: height, rows: [][]rune{nil}}
}

func (s *screen) write(text string) {
	for len(text) > 0 {
		if rest, ok := strings.CutPrefix(text, "\x1b["); ok {
			end := strings.IndexFunc(rest, func(r rune) bool { return r >= 0x40 && r <= 0x7e })
			if end < 0 {
				s.t.Fatalf("unfinished sequence %q", text)
			}
			s.control(rest[:end], rest[end])
			text = rest[end+1:]
			continue
		}

		r := []rune(text)[0]
		s.put(r)
		text = text[len(string(r)):]
	}
}

func (s *screen) put(r rune) {
	switch {
	case r == '\r':
		s.x = 0
	case r == '\n':
		s.x = 0 // the terminal driver makes it \r\n
		s.down()
	case r < ' ' || r == 0x7f:
		s.t.Errorf("control character %q reaches the terminal", r)
	default:
		if w := runewidth.RuneWidth(r); s.x+w > s.width {
			s.x = 0
			s.down()
		}
		row := s.rows[s.y]
		for len(row) <= s.x {
			row = append(row, ' ')
		}
		row[s.x] = r
		s.rows[s.y] = row
		s.x += runewidth.RuneWidth(r)
	}
}

func (s *screen) down() {
	if s.y++; s.y == len(s.rows) {
		s.rows = append(s.rows, nil)
	}
}

func (s *screen) control(args string, final byte) {
	switch {
	case final == 'h' && args == "?25":
		s.hidden = false
	case final == 'l' && args == "?25":
		s.hidden = true
	case final == 'm':
		s.styled = args != "0"
	case final == 'J' && args == "":
		s.rows[s.y] = s.rows[s.y][:min(len(s.rows[s.y]), s.x)]
		s.rows = s.rows[:s.y+1]
	case final == 'A':
		var n int
		if _, err := fmt.Sscan(args, &n); err != nil {
			s.t.Fatal(err)
		}
		s.y = max(s.y-n, len(s.rows)-s.height, 0)
	default:
		s.t.Errorf("unknown sequence ESC [ %s %c", args, final)
	}
}

// text returns what stands on the screen and above it, and checks what must hold between frames.
func (s *screen) text() string {
	s.t.Helper()
	if s.hidden {
		s.t.Error("the cursor is hidden")
	}
	if s.styled {
		s.t.Error("a style is left on")
	}
	if s.x != 0 || s.y != len(s.rows)-1 {
		s.t.Errorf("the cursor stands at %d, %d of %d rows", s.x, s.y, len(s.rows))
	}
	var b strings.Builder
	for i, row := range s.rows {
		if i == len(s.rows)-1 && len(row) == 0 {
			break
		}
		b.WriteString(string(row) + "\n")
	}

	return b.String()
}

func TestScreenScrolls(t *testing.T) { // the test's own tool
	s := newScreen(t, 4, 2)
	s.write("abcdef\nx\n\x1b[9A\r\x1b[Jy\n")
	if got := s.text(); got != "abcd\nef\ny\n" {
		t.Errorf("%q", got)
	}
}
