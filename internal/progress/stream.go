package progress

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// Stream is standard output or standard error. All text of rbuild reaches these two files through a
// Stream, because the text may hold words of others: of an image, a registry, a Dockerfile, a file
// name.
//
// On a terminal, Write escapes every character that is not graphic, except newline and tab: escape
// sequences, other control characters (C0, DEL, C1), marks that change the direction of writing,
// and bytes that are not UTF-8. Elsewhere the bytes stay as they are, for programs that read them.
// A Stream is safe for concurrent use.
type Stream struct {
	file     *os.File
	terminal bool
	color    bool

	mu   sync.Mutex
	held []byte // the beginning of a character
	err  error  // of the first write that failed
}

// NewStream returns the Stream of f. With color, Print shows styles if f is a terminal.
func NewStream(f *os.File, color bool) *Stream {
	terminal := IsTerminal(f)
	return &Stream{file: f, terminal: terminal, color: color && terminal}
}

// Terminal reports whether the Stream ends at a terminal.
func (s *Stream) Terminal() bool { return s.terminal }

// Raw returns the file itself, for the live view and for a library's progress bars, which draw on a
// terminal. Text of images, registries and files must not be written to Raw.
func (s *Stream) Raw() *os.File { return s.file }

// Steps returns a writer for the output of steps: on a terminal that of [Safe], elsewhere the file.
func (s *Stream) Steps() io.Writer {
	if s.terminal {
		return Safe(s.file)
	}
	return s.file
}

// Write implements io.Writer. A character may come in several writes. An error is that of the file.
func (s *Stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.terminal {
		n, err := s.file.Write(p)
		s.err = cmp.Or(s.err, err)
		return n, err
	}

	text := append(s.held, p...)
	whole := len(text) - unfinished(text)
	s.held = bytes.Clone(text[whole:])
	if _, err := s.file.WriteString(escape(string(text[:whole]))); err != nil {
		s.err = cmp.Or(s.err, err)
		return 0, err
	}
	return len(p), nil
}

// Err returns the error of the first write that failed, for callers that print and do not look;
// nil: none has failed.
func (s *Stream) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// unfinished returns how many bytes at the end of text begin a character that is not complete.
func unfinished(text []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		if tail := text[len(text)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

// Piece is a part of a line in one style.
type Piece struct {
	Style Style
	Text  string
}

// Style is a "select graphic rendition" of ECMA-48; empty: none.
type Style string

// The styles that rbuild uses.
const (
	Bold   Style = "1"
	Red    Style = "31"
	Green  Style = "32"
	Yellow Style = "33"
)

// And returns both styles at a time.
func (s Style) And(other Style) Style { return s + ";" + other }

// Print writes pieces to w in one call. If w is a Stream with colours, the pieces have their
// styles, and their text is escaped as by Write.
func Print(w io.Writer, pieces ...Piece) error {
	stream, _ := w.(*Stream)
	colored := stream != nil && stream.color

	var b strings.Builder
	for _, p := range pieces {
		switch {
		case !colored:
			b.WriteString(p.Text)
		case p.Style == "":
			b.WriteString(escape(p.Text))
		default:
			b.WriteString("\x1b[" + string(p.Style) + "m" + escape(p.Text) + "\x1b[0m")
		}
	}

	if colored {
		w = stream.file
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// escape makes text fit for a terminal, as Write says. The escapes are Go's: \x1b, \u202e.
func escape(text string) string {
	plain := strings.IndexFunc(
		text,
		func(r rune) bool { return r == utf8.RuneError || !strconv.IsGraphic(r) && r != '\n' && r != '\t' },
	)
	if plain < 0 {
		return text
	}

	var b strings.Builder
	b.WriteString(text[:plain])
	for i, r := range text[plain:] {
		switch {
		case r == '\n' || r == '\t':
			b.WriteRune(r)
		case r == utf8.RuneError && !strings.HasPrefix(text[plain+i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, text[plain+i])
		default:
			escapeRune(&b, r)
		}
	}

	return b.String()
}

// escapeRune writes r, or the escape of Go if it is not graphic.
func escapeRune(b *strings.Builder, r rune) {
	if strconv.IsGraphic(r) {
		b.WriteRune(r)
		return
	}
	b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
}

// Line makes text of images, registries and files fit for one line, or one cell of a table, on a
// terminal or in a file. Newlines and tabs become spaces, and characters that are not graphic are
// escaped as in Go.
func Line(text string) string { return clean(text, math.MaxInt) }

// WriteJSON prints v as indented JSON. Characters that are not graphic are escaped, for example
// \u202e.
func WriteJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(JSONWriter(w))
	enc.SetIndent("", "    ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// JSONWriter returns a writer for JSON documents, each in one Write. In their strings it escapes
// every character that is not graphic in the form of JSON (\u202e). The values stay the same, and
// the document cannot steer a terminal that shows it. encoding/json escapes C0 only (RFC 8259,
// section 7).
func JSONWriter(w io.Writer) io.Writer { return jsonWriter{w} }

type jsonWriter struct{ w io.Writer }

func (j jsonWriter) Write(p []byte) (int, error) {
	var b bytes.Buffer
	for _, r := range string(p) {
		switch {
		case r == '\n' || strconv.IsGraphic(r):
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}

	if _, err := j.w.Write(b.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}
