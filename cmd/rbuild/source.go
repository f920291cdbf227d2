package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// maxExcerpt bounds the lines of source that an error shows, and maxExcerptLine the bytes of each.
const (
	maxExcerpt     = 20
	maxExcerptLine = 200
)

// sourceError is an error about lines of the Dockerfile.
type sourceError struct {
	error
	first int // number of the first line, from 1
	lines []string
}

func (e *sourceError) Unwrap() error { return e.error }

// print shows the lines with their numbers.
func (e *sourceError) print(w io.Writer) {
	for _, line := range instructions.Numbered(e.first, e.lines) {
		fmt.Fprintln(w, progress.Lines(line))
	}
}

// locate adds the lines of the Dockerfile that an error of the build is about.
func (in *input) locate(err error) error {
	var bad *instructions.Error
	var step *builder.StepError
	switch {
	case errors.As(err, &bad) && bad.Line > 0:
		return &sourceError{err, bad.Line, redact(bad.Source)}
	case errors.As(err, &step):
		return &sourceError{err, step.Line, in.excerpt(step.File, step.Line, step.EndLine)}
	}
	return err
}

// redact takes credentials out of lines.
func redact(lines []string) []string {
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = instructions.Redact(line)
	}
	return out
}

// excerpt gives the lines first to last of a text.
func (in *input) excerpt(name string, first, last int) (out []string) {
	at := slices.IndexFunc(in.texts, func(t instructions.Text) bool { return t.Name == name })
	if at < 0 {
		return nil
	}

	for i, line := range strings.Split(string(in.texts[at].Data), "\n") {
		if i+1 < first || i+1 > last || len(out) == maxExcerpt {
			continue
		}
		line = instructions.Redact(line)
		if len(line) > maxExcerptLine {
			line = strings.ToValidUTF8(line[:maxExcerptLine], "") + "..."
		}
		out = append(out, strings.TrimSuffix(line, "\r"))
	}

	return out
}
