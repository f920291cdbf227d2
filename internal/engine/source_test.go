package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// TestExcerpt: the lines of an error are bounded, and show no credentials.
func TestExcerpt(t *testing.T) {
	long := strings.Repeat("x", maxExcerptLine+1)
	many := strings.Repeat("RUN x\n", maxExcerpt+5)
	for _, tc := range []struct {
		name        string
		text        string
		file        string
		first, last int
		want        []string
	}{
		{"one line", "FROM a\nRUN b\nCMD c\n", "Dockerfile", 2, 2, []string{"RUN b"}},
		{"line ends of Windows", "FROM a\r\nRUN b\r\n", "Dockerfile", 1, 2, []string{"FROM a", "RUN b"}},
		{"beyond the end", "FROM a", "Dockerfile", 1, 9, []string{"FROM a"}},
		{"another file", "FROM a", "Other", 1, 1, nil},
		{"a long line", long, "Dockerfile", 1, 1, []string{long[:maxExcerptLine] + "..."}},
		{
			"a character at the bound is not cut", long[:maxExcerptLine-1] + "é", "Dockerfile", 1, 1,
			[]string{long[:maxExcerptLine-1] + "..."},
		},
		{"many lines", many, "Dockerfile", 2, maxExcerpt + 5, slices.Repeat([]string{"RUN x"}, maxExcerpt)},
		{
			"a password", "ADD https://user:secret@example.org/x /\n", "Dockerfile", 1, 1,
			[]string{instructions.Redact("ADD https://user:secret@example.org/x /")},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := excerpt([]instructions.Text{{Name: "Dockerfile", Data: []byte(tc.text)}}, tc.file, tc.first, tc.last)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if strings.Contains(fmt.Sprint(got), "secret") {
				t.Errorf("the password is shown: %q", got)
			}
		})
	}
}

// TestLocateSyntax: an error of the parser has its lines, and another error stays as it is.
func TestLocateSyntax(t *testing.T) {
	in := &input{}
	bad := &instructions.Error{File: "Dockerfile", Line: 3, Source: []string{"ADD https://user:secret@x /"}}
	source, ok := errors.AsType[*SourceError](in.locate(fmt.Errorf("parsing: %w", bad)))
	if !ok || source.First != 3 || len(source.Lines) != 1 || strings.Contains(source.Lines[0], "secret") {
		t.Errorf("%+v", source)
	}

	other := errors.New("no memory")
	for _, err := range []error{other, &instructions.Error{}} {
		if got := in.locate(err); !errors.Is(got, err) || errors.As(got, new(*SourceError)) {
			t.Errorf("%v is now %v", err, got)
		}
	}
}

// TestStepLog: steps that ended are recorded in the order of their ends, and every event is passed on.
func TestStepLog(t *testing.T) {
	passed := 0
	l := &stepLog{to: listenerFunc(func(progress.Event) { passed++ })}
	if got := l.ended(); got == nil || len(got) != 0 {
		t.Errorf("before the first step: %#v, want an empty list for JSON", got)
	}

	run := &progress.Step{Stage: "build", Text: "RUN make", Line: 4}
	l.Event(progress.Event{Kind: progress.StepStarted, Step: run})
	l.Event(progress.Event{Kind: progress.StepCached, Step: &progress.Step{Text: "FROM a"}})
	l.Event(progress.Event{Kind: progress.Notice, Text: "pulling"})
	l.Event(progress.Event{Kind: progress.StepDone, Step: run, Elapsed: 1500 * time.Millisecond, Waited: time.Second})
	l.Event(progress.Event{Kind: progress.StepFailed, Step: &progress.Step{Text: "RUN false"}})

	want := []stepRecord{
		{Name: "FROM a", Cached: true},
		{Name: "RUN make", Stage: "build", Line: 4, Seconds: 1.5, Waited: 1},
	}
	if diff := cmp.Diff(want, l.ended()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if passed != 5 {
		t.Errorf("%d of 5 events were passed on", passed)
	}
}
