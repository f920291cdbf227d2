package instructions

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseTexts(t *testing.T) {
	f, err := ParseTexts(
		Text{"a", []byte("\xef\xbb\xbfARG v\nFROM x AS one\r\nRUN a \\\n  b\n")},
		Text{"b", []byte("# syntax=docker/dockerfile:1\n# escape=`\nENV a=1\n\nFROM y AS one\n")},
		Text{"c", []byte("RUN c")},
	)
	if err != nil {
		t.Fatal(err)
	}
	place := func(r Range) string {
		p := f.Place(r)
		return strings.Join([]string{p.File, string(rune('0' + p.Line)), string(rune('0' + p.EndLine)), string(f.EscapeAt(r))}, " ")
	}

	var got []string
	for _, in := range f.Args {
		got = append(got, place(in.Range))
	}
	for _, s := range f.Stages {
		got = append(got, place(s.Range))
		for _, in := range s.Instructions {
			got = append(got, place(in.Range))
		}
	}

	want := []string{`a 1 1 \`, `a 2 2 \`, `a 3 4 \`, "b 3 3 `", "b 5 5 `", `c 1 1 \`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	first, second := f.Stages[0].Range, f.Stages[1].Range
	if diff := cmp.Diff([]string{"line 2 of a", "line 2"}, []string{f.Refer(first, second), f.Refer(first, first)}); diff != "" {
		t.Errorf("references (-want +got):\n%s", diff)
	}
	if got := f.RangeOf(Place{"b", 5, 5}); got != second || f.PartOf(second) != 1 || f.PartOf(first) != 0 {
		t.Errorf("range %v, parts %d and %d", got, f.PartOf(second), f.PartOf(first))
	}
	if got, want := f.WarningText(Warning{second, "odd"}), "b:5: odd\n     5 | FROM y AS one"; got != want {
		t.Errorf("warning %q", got)
	}
	if f.Name != "a, b, c" || f.Syntax.Image != "docker/dockerfile:1" {
		t.Errorf("name %q, syntax %v", f.Name, f.Syntax)
	}
	if e := f.Errorf(second, "wrong"); e.Error() != "b:5: wrong" || !cmp.Equal(e.Source, []string{"FROM y AS one"}) {
		t.Errorf("%v %q", e, e.Source)
	}
	if e := f.Errorf(Range{}, "wrong"); e.Error() != "a, b, c: wrong" {
		t.Error(e)
	}
}

func TestParseTextsErrors(t *testing.T) {
	base := Text{"base", []byte("FROM x\n\nENV a=b\n")}
	long := Text{"long", []byte("# " + strings.Repeat("x", MaxFile/2))}
	for _, tc := range []struct {
		name  string
		texts []Text
		want  string
	}{
		{"instruction", []Text{base, {"more", []byte("\nRUM x\n")}}, "more:2: unknown instruction"},
		{"operand", []Text{base, {"more", []byte("ENV a=b\n\nENV x\n")}}, "more:3: "},
		{"directive", []Text{base, {"more", []byte("# escape=x\nENV a=b")}}, "more:1: "},
		{"continuation ends with its text", []Text{{"one", []byte("FROM x\nRUN a \\\n")}, {"two", []byte("b c\n")}}, "two:1: unknown instruction b"},
		{"before FROM", []Text{{"one", []byte("ENV a=b\n")}, base}, "one:1: ENV before the first FROM"},
		{"no FROM", []Text{{"one", []byte("ARG a\n")}, {"two", []byte("ARG b\n")}}, "one, two: no FROM"},
		{"empty", []Text{base, {"two", []byte("# x\n")}}, "two: "},
		{"long line", []Text{base, {"two", []byte("ENV a=" + strings.Repeat("x ", parserLine) + "\n")}}, "two:1: "},
		{"too long together", []Text{base, {"two", append(append([]byte("ENV a=b\n"), long.Data...), '\n')}, {"three", append(append([]byte("ENV a=b\n"), long.Data...), '\n')}}, "base, two, three: together more than"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ParseTexts(tc.texts...)
			e, ok := errors.AsType[*Error](err)
			if !ok || !strings.HasPrefix(e.Error(), tc.want) {
				t.Errorf("%.200v, want %q", err, tc.want)
			}
		})
	}
}
