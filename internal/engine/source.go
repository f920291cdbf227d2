package engine

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

// Bounds of the source that an error shows: lines, and bytes of each line.
const (
	maxExcerpt     = 20
	maxExcerptLine = 200
)

// SourceError is an error about lines of the Dockerfile.
type SourceError struct {
	Err   error
	First int      // number of the first line, from 1
	Lines []string // without credentials
}

func (e *SourceError) Error() string { return e.Err.Error() }

// Unwrap returns the error without the lines.
func (e *SourceError) Unwrap() error { return e.Err }

// Print writes the lines with their numbers.
func (e *SourceError) Print(w io.Writer) {
	for _, line := range instructions.Numbered(e.First, e.Lines) {
		fmt.Fprintln(w, progress.Lines(line))
	}
}

// locate adds the lines of the Dockerfile that an error is about.
func (in *input) locate(err error) error {
	var bad *instructions.Error
	var step *builder.StepError
	switch {
	case errors.As(err, &bad) && bad.Line > 0:
		return &SourceError{err, bad.Line, redact(bad.Source)}
	case errors.As(err, &step):
		return &SourceError{err, step.Line, excerpt(in.texts, step.File, step.Line, step.EndLine)}
	}
	return err
}

// redact removes credentials from lines.
func redact(lines []string) []string {
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = instructions.Redact(line)
	}
	return out
}

// excerpt returns the lines first to last of the text with a name.
func excerpt(texts []instructions.Text, name string, first, last int) (out []string) {
	at := slices.IndexFunc(texts, func(t instructions.Text) bool { return t.Name == name })
	if at < 0 {
		return nil
	}

	for i, line := range strings.Split(string(texts[at].Data), "\n") {
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
