package instructions

import (
	"fmt"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Text is a text of a Dockerfile, for ParseTexts.
type Text struct {
	Name string // for errors
	Data []byte
}

// Place names lines of one text, from 1. Line is 0 if the whole file is meant.
type Place struct {
	File          string // name of the text
	Line, EndLine int
}

// Part describes a text of a File with several texts.
type Part struct {
	Name   string
	First  int  // number of lines of the texts before
	Escape rune // escape character of the text
}

// join appends the text of more to f. nodes are the instructions of more.
func (f *File) join(more *File, nodes []*parser.Node) {
	if f.Parts == nil {
		f.Parts = []Part{f.part(Range{})}
	}
	first := len(f.Lines)
	f.Parts = append(f.Parts, Part{Name: more.Name, First: first, Escape: more.Escape})
	f.Name += ", " + more.Name
	f.Lines = append(f.Lines, more.Lines...)
	if f.Syntax.Image == "" && more.Syntax.Image != "" {
		f.Syntax = Syntax{Image: more.Syntax.Image, Line: more.Syntax.Line + first}
	}
	if f.Check == "" {
		f.Check = more.Check
	}
	for _, n := range nodes {
		n.StartLine += first
		n.EndLine += first
	}

	for _, w := range more.Warnings {
		w.Line += first
		w.EndLine += first
		f.Warnings = append(f.Warnings, w)
	}

	for _, r := range more.EmptyContinuations {
		f.EmptyContinuations = append(f.EmptyContinuations, Range{Line: r.Line + first, EndLine: r.EndLine + first})
	}
}

// part finds the text that contains r.
func (f *File) part(r Range) Part {
	at := Part{Name: f.Name, Escape: f.Escape}
	for _, p := range f.Parts {
		if p.First < r.Line {
			at = p
		}
	}
	return at
}

// Place converts r, which counts the lines of all texts, to a text and lines of that text.
func (f *File) Place(r Range) Place {
	if r.Line == 0 {
		return Place{File: f.Name}
	}
	p := f.part(r)
	return Place{File: p.Name, Line: r.Line - p.First, EndLine: max(r.Line, r.EndLine) - p.First}
}

// RangeOf converts a Place to a Range. If several texts have the name, RangeOf uses the first.
func (f *File) RangeOf(at Place) Range {
	for _, p := range f.Parts {
		if p.Name == at.File {
			return Range{Line: at.Line + p.First, EndLine: at.EndLine + p.First}
		}
	}
	return Range{Line: at.Line, EndLine: at.EndLine}
}

// PartOf returns the index, from 0, of the text that contains r.
func (f *File) PartOf(r Range) (index int) {
	for i, p := range f.Parts {
		if p.First < r.Line {
			index = i
		}
	}
	return index
}

// EscapeAt returns the escape character of the text that contains r.
func (f *File) EscapeAt(r Range) rune { return f.part(r).Escape }

// Refer names r in a message about at: "line 3", or "line 3 of NAME" if r is in another text.
func (f *File) Refer(r, at Range) string {
	p := f.Place(r)
	if p.File == f.Place(at).File {
		return fmt.Sprintf("line %d", p.Line)
	}
	return fmt.Sprintf("line %d of %s", p.Line, p.File)
}
