package instructions

import (
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Error is an error in a Dockerfile, with file and line.
type Error struct {
	File    string   // name as given to Parse; for a trigger "ONBUILD trigger 1 of IMAGE"
	Line    int      // first line of the instruction, from 1; 0: the error concerns the whole file
	EndLine int      // last line of the instruction
	Msg     string   // the reason, with the name of the flag, stage or variable
	Hint    string   // the change that helps, for example "did you mean --chown?"; may be empty
	Source  []string // the lines from Line to EndLine: at most 20 lines, each cut to 200 bytes

	refused bool // the table refused has the flag: it is part of the language, and rbuild does not support it yet
}

// Error returns "FILE:LINE: MSG (HINT)", without LINE or HINT if they are empty.
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

// Range holds the first and the last line of an instruction in a File, from 1. If the File has several texts, the count
// continues from text to text. The zero Range stands for the whole File.
type Range struct{ Line, EndLine int }

const (
	maxExcerpt     = 20  // lines of source in an Error
	maxExcerptLine = 200 // bytes of a line in an Error
)

// Errorf returns an *Error for the lines r of the file.
func (f *File) Errorf(r Range, format string, args ...any) *Error {
	return f.fault(r, "", format, args...)
}

// Hintf is Errorf with a hint for the user.
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

// hintError is an error with a hint and without file and line. File.At adds them.
type hintError struct{ msg, hint string }

func (e *hintError) Error() string { return e.msg }

// At returns err as an *Error for the lines r. At returns nil for nil, and an *Error without a change.
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

// Excerpt returns the lines r of the file: at most 20 lines, each cut to 200 bytes.
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

// Numbered puts line numbers before lines, for display: "    12 | RUN make". first is the number of the first line.
func Numbered(first int, lines []string) []string {
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = fmt.Sprintf("%6d | %s", first+i, line)
	}
	return out
}

// parserRange returns the lines of an error of BuildKit's parser. ok is false if the error has no lines.
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
