package instructions

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// BuildKit's parser accepts lines of up to 64 KiB. Longer lines are cut before the parser reads
// them: a line of an instruction is cut into continuation lines, which the parser joins again; a
// line of a here-document is replaced by a mark, and the mark by the line after the parser has
// finished.
const (
	parserLine = 60_000 // length from which a line is cut; the parser's own bound is 65,535
	mark       = "\x00long line %d\x00"
)

// shortener rewrites a text with lines that are too long for the parser.
type shortener struct {
	file   *File
	limit  int      // bytes of a line
	lines  [][]byte // with line ends
	next   int
	escape byte
	out    bytes.Buffer
	origin []int    // line of out -> line of the text, from 1
	long   []string // number of a mark -> the line that the mark replaces
}

// shorten makes the text for the parser. The shortener converts the result of the parser back.
func shorten(f *File, text []byte, limit int) (*shortener, error) {
	s := &shortener{
		file: f, limit: limit, lines: bytes.SplitAfter(text, []byte{'\n'}), escape: byte(f.Escape),
	}
	if n := len(s.lines); len(s.lines[n-1]) == 0 {
		s.lines = s.lines[:n-1]
	}
	for s.next < len(s.lines) {
		if err := s.instruction(); err != nil {
			return nil, err
		}
	}

	return s, nil
}

// continues reports whether the line ends with one escape character. Blanks may follow the
// character.
func (s *shortener) continues(line []byte) bool {
	line, ok := bytes.CutSuffix(bytes.TrimRight(line, " \t"), []byte{s.escape})
	return ok && (len(line) == 0 || line[len(line)-1] != s.escape)
}

// emit writes a line of the result that comes from line n.
func (s *shortener) emit(line []byte, n int) {
	s.out.Write(line)
	s.origin = append(s.origin, n)
}

// instruction copies one instruction with its here-documents, or an empty line, or a comment.
func (s *shortener) instruction() error {
	var joined []byte
	start, from := s.next+1, s.out.Len()
	for first := true; s.next < len(s.lines); first = false {
		line := s.lines[s.next]
		s.next++
		body := bytes.TrimRight(line, "\r\n")
		if bytes.HasPrefix(bytes.TrimLeftFunc(body, unicode.IsSpace), []byte{'#'}) {
			s.emit(append(body[:min(len(body), s.limit)], '\n'), s.next)
			if first {
				return nil
			}
			continue
		}
		if len(bytes.TrimSpace(body)) == 0 {
			s.emit([]byte{'\n'}, s.next)
			if first {
				return nil
			}
			continue
		}

		more := s.continues(body)
		if err := s.cut(body); err != nil {
			return err
		}

		if more {
			body = bytes.TrimRight(body, " \t")
			body = body[:len(body)-1]
		}

		if joined = append(joined, body...); len(joined) > MaxLine {
			return s.file.Errorf(Range{Line: start, EndLine: s.next}, "an instruction of more than %d bytes", MaxLine)
		}
		if !more {
			break
		}
	}

	text := append([]byte("# escape="), s.escape, '\n')

	return s.heredocs(heredocsOf(append(text, s.out.Bytes()[from:]...), joined))
}

// cut writes a line. A line that is too long becomes several lines.
func (s *shortener) cut(body []byte) error {
	for len(body) > s.limit {
		at := breakAt(body[:s.limit], s.escape)
		if at == 0 {
			return s.file.Errorf(Range{Line: s.next}, "%d bytes without a place to break the line", s.limit)
		}
		s.emit(append(append([]byte(nil), body[:at]...), s.escape, '\n'), s.next)
		body = body[at:]
	}
	s.emit(append(append([]byte(nil), body...), '\n'), s.next)
	return nil
}

// breakAt finds a position for a line break: not after an escape character, and not before a blank
// or a comment.
func breakAt(b []byte, escape byte) int {
	for at := len(b) - utf8.UTFMax; at > 0; at-- {
		r, _ := utf8.DecodeRune(b[at:])
		if utf8.RuneStart(b[at]) && r != utf8.RuneError && r != '#' && b[at] != escape && b[at-1] != escape &&
			!unicode.IsSpace(r) && !unicode.IsSpace(rune(b[at-1])) {
			return at
		}
	}
	return 0
}

// heredocs copies the here-documents of an instruction.
func (s *shortener) heredocs(docs []parser.Heredoc) error {
	for _, doc := range docs {
		for s.next < len(s.lines) {
			body := s.lines[s.next]
			s.next++
			end := bytes.TrimRight(body, "\r\n")
			if len(body) > s.limit {
				if len(body) > MaxLine {
					return s.file.Errorf(Range{Line: s.next}, "a line of more than %d bytes", MaxLine)
				}
				s.emit(fmt.Appendf(nil, mark+"\n", len(s.long)), s.next)
				s.long = append(s.long, string(body))
				continue
			}

			s.emit(body, s.next)
			if doc.Chomp {
				end = bytes.TrimLeft(end, "\t")
			}
			if string(end) == doc.Name {
				break
			}
		}
	}

	return nil
}

// restore replaces the marks in the result of the parser.
func (s *shortener) restore(nodes []*parser.Node) {
	var pairs []string
	for i, line := range s.long {
		pairs = append(pairs, fmt.Sprintf(mark+"\n", i), line)
	}
	unmark := strings.NewReplacer(pairs...)
	for _, n := range nodes {
		r := s.place(nodeRange(n))
		n.StartLine, n.EndLine = r.Line, r.EndLine
		for i := range n.Heredocs {
			n.Heredocs[i].Content = unmark.Replace(n.Heredocs[i].Content)
		}
	}
}

// place converts lines of the rewritten text to lines of the text.
func (s *shortener) place(r Range) Range {
	line := func(n int) int {
		if n < 1 || len(s.origin) == 0 {
			return n
		}
		return s.origin[min(n, len(s.origin))-1]
	}
	return Range{Line: line(r.Line), EndLine: line(r.EndLine)}
}

// heredocsOf returns the here-documents that the parser expects after an instruction. text is the
// instruction alone and line is the instruction on one line. The content of the here-documents is
// missing in text, so that the parser reports an error if it expects any.
func heredocsOf(text, line []byte) []parser.Heredoc {
	if !bytes.Contains(line, []byte("<<")) {
		return nil
	}
	if _, err := parser.Parse(bytes.NewReader(text)); err == nil {
		return nil
	}

	lex := shell.NewLex('\\')
	lex.RawQuotes, lex.RawEscapes = true, true
	lex.SkipUnsetEnv = true
	words, _ := lex.ProcessWords(string(line), shell.EnvsFromSlice(nil)) // the words before an error count
	var docs []parser.Heredoc
	for _, w := range words {
		if d, _ := parser.ParseHeredoc(w); d != nil { // nil after an error
			docs = append(docs, *d)
		}
	}

	return docs
}
