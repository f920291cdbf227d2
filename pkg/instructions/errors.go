package instructions

import (
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Error is a fault of a Dockerfile, with its place.
type Error struct {
	File    string   // name as given to Parse; for a trigger "ONBUILD trigger 1 of IMAGE"
	Line    int      // first line of the instruction, from 1; 0 if the fault is of the whole file
	EndLine int      // last line of the instruction
	Msg     string   // what is wrong, naming the culprit
	Hint    string   // what to change; may be empty
	Source  []string // the lines Line to EndLine, at most maxExcerpt of them, long ones cut

	refused bool // by table refused: part of the language, not carried out yet
}

// Error gives "FILE:LINE: MSG (HINT)".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	b.WriteString(": ")
	b.WriteString(e.Msg)
	if e.Hint != "" {
		b.WriteString(" (")
		b.WriteString(e.Hint)
		b.WriteString(")")
	}

	return b.String()
}

// Range is the place of an instruction in a File: its first and last line,
// from 1, counted through all its texts.
type Range struct{ Line, EndLine int }

const (
	maxExcerpt     = 20  // lines of source in an Error
	maxExcerptLine = 200 // bytes of each
)

// Errorf makes an *Error at r of the file.
func (f *File) Errorf(r Range, format string, args ...any) *Error {
	return f.fault(r, "", format, args...)
}

// Hintf is Errorf with a hint: what the user may change.
func (f *File) Hintf(r Range, hint, format string, args ...any) *Error {
	return f.fault(r, hint, format, args...)
}

func (f *File) fault(r Range, hint, format string, args ...any) *Error {
	at := f.Place(r)
	return &Error{
		File: at.File, Line: at.Line, EndLine: at.EndLine,
		Msg: fmt.Sprintf(format, args...), Hint: hint, Source: f.Excerpt(r),
	}
}

// hintError is an error without a place that has a hint.
type hintError struct{ msg, hint string }

func (e *hintError) Error() string { return e.msg }

// At gives err its place in the file; an *Error stays as it is, nil stays nil.
func (f *File) At(r Range, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	if e, ok := errors.AsType[*hintError](err); ok {
		return f.Hintf(r, e.hint, "%s", err.Error())
	}
	return f.Errorf(r, "%s", err.Error())
}

// Excerpt gives the lines of r, at most 20 of them, long ones cut.
func (f *File) Excerpt(r Range) []string {
	var out []string
	for n := r.Line; n >= 1 && n <= max(r.Line, r.EndLine) && n <= len(f.Lines) && len(out) < maxExcerpt; n++ {
		line := f.Lines[n-1]
		if len(line) > maxExcerptLine {
			line = strings.ToValidUTF8(line[:maxExcerptLine], "") + "..."
		}
		out = append(out, line)
	}
	return out
}

// Numbered gives lines of a file with their numbers, first being that of the first one, as they are shown to people.
func Numbered(first int, lines []string) []string {
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = fmt.Sprintf("%6d | %s", first+i, line)
	}
	return out
}

// parserRange finds the lines in an error of BuildKit's parser; ok is false
// if it carries none.
func parserRange(err error) (r Range, ok bool) {
	loc, found := errors.AsType[*parser.LocationError](err)
	if !found {
		return Range{}, false
	}

	for _, group := range loc.Locations {
		for _, at := range group {
			if at.Start.Line > 0 && (!ok || at.Start.Line < r.Line) {
				r.Line = at.Start.Line
			}
			r.EndLine = max(r.EndLine, at.End.Line)
			ok = ok || at.Start.Line > 0
		}
	}

	return r, ok
}
