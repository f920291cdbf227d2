package progress

import (
	"bytes"
	"io"
	"strconv"
	"unicode/utf8"
)

// maxEscape bounds the bytes of an escape sequence that are kept until its end comes. A longer
// sequence is shown as text.
const maxEscape = 4 << 10

// Safe returns a writer to the terminal w that lets colours and other attributes of characters
// through (ECMA-48, SGR) and removes all other sequences, by which the output of a step could steer
// the terminal: a terminal sets titles, answers with text as if the user had typed the text, and
// hides earlier output. Carriage returns stay, because programs show progress by them.
//
// An escape sequence may come in several writes. A write error is that of w.
func Safe(w io.Writer) io.Writer { return &safe{w: w} }

type safe struct {
	w       io.Writer
	pending []byte // the beginning of an escape sequence or a character
}

func (s *safe) Write(p []byte) (int, error) {
	in := append(s.pending, p...)
	out, rest := harmless(in)
	s.pending = bytes.Clone(rest)
	if _, err := s.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// harmless returns the part of text that a terminal may get, and the unfinished sequence or
// character at the end of text.
func harmless(text []byte) (out, rest []byte) {
	out = make([]byte, 0, len(text))
	for len(text) > 0 {
		n := 1
		switch c := text[0]; {
		case c == 0x1b:
			n = escapeLength(text)
			if n == len(text) && n < maxEscape && !ended(text) {
				return out, text
			}
			if isSGR(text[:n]) {
				out = append(out, text[:n]...)
			} else if n == len(text) && !ended(text) {
				n = 1 // no sequence: its text follows
			}
		case c == '\n' || c == '\r' || c == '\t':
			out = append(out, c)
		case c >= utf8.RuneSelf && !utf8.FullRune(text):
			return out, text
		default:
			var r rune
			r, n = utf8.DecodeRune(text)
			if control := n == 1 && c >= 0x80 && c < 0xa0; strconv.IsGraphic(r) && !control {
				out = append(out, text[:n]...) // text of another encoding stays as it is
			}
		}

		text = text[n:]
	}

	return out, nil
}

// ended reports whether the escape sequence s is complete.
func ended(s []byte) bool {
	if len(s) < 2 {
		return false
	}

	last := s[len(s)-1]
	switch s[1] {
	case '[':
		return len(s) > 2 && last >= 0x40 && last <= 0x7e
	case ']', 'P', 'X', '^', '_':
		return last == 0x07 || last == '\\' && s[len(s)-2] == 0x1b
	default:
		return last < 0x20 || last > 0x2f
	}
}

// isSGR reports whether s is "ESC [ parameters m".
func isSGR(s []byte) bool {
	return len(s) >= 3 && s[1] == '[' && s[len(s)-1] == 'm' && len(bytes.Trim(s[2:len(s)-1], "0123456789;:")) == 0
}
