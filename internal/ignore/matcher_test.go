package ignore

import (
	"path"
	"strings"
	"testing"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// FuzzMatcher: a Matcher agrees with the library on whole paths, and MayMatchBelow is true for
// every directory that has a match below.
func FuzzMatcher(f *testing.F) {
	f.Add("logs\n!logs/keep\n**/*.o", "logs/keep/b.o")
	f.Add("*\n!a/**/b", "a/x/y/b")
	f.Add("a?[b-d]\n!**", "abc/d")
	f.Add("a/b\n!a", "a/b")
	f.Add("?", "ab")
	f.Add("*", "a/b")
	f.Add("*^", "a")
	f.Fuzz(func(t *testing.T, text, file string) {
		file = path.Clean("/" + file)[1:]
		patterns := strings.Split(text, "\n")
		m, err := New(patterns)
		if err != nil || m == nil || file == "" || strings.ContainsAny(file, "\x00\n") {
			return
		}

		var clean []string
		for _, p := range m.patterns {
			text := EscapeBang(strings.Join(p.parts, "/"))
			if p.negative {
				text = "!" + text
			}
			clean = append(clean, text)
		}

		oracle, err := patternmatcher.New(clean)
		if err != nil {
			return
		}

		want, err := oracle.MatchesOrParentMatches(file)
		if err != nil {
			return
		}

		got, _, err := m.Path(file)
		if err != nil || got != want {
			t.Fatalf("%q on %q: %v, %v; want %v", clean, file, got, err, want)
		}
		checkWalk(t, m, clean, file, want)
		asRead(t, text, file)
	})
}

// checkWalk goes down to file as a walk does, which enters a directory only if an entry below may
// be selected.
func checkWalk(t *testing.T, m *Matcher, clean []string, file string, want bool) {
	t.Helper()
	var above Matched
	for i := range len(file) + 1 {
		if i < len(file) && file[i] != '/' {
			continue
		}

		out, below, err := m.Entry(file[:i], above)
		if err != nil {
			t.Fatal(err)
		}
		above = below
		switch {
		case i == len(file) && out != want:
			t.Fatalf("%q on %q from its directory: %v, want %v", clean, file, out, want)
		case i < len(file) && out && !want && !m.MayMatchBelow(file[:i], true):
			t.Fatalf("%q: nothing is let in below %q, but %q is", clean, file[:i], file)
		case i < len(file) && !out && want && !m.MayMatchBelow(file[:i], false):
			t.Fatalf("%q: nothing is matched below %q, but %q is", clean, file[:i], file)
		}
	}
}

// asRead compares a Matcher of an ignore file with the reader and the matcher of the library, as
// BuildKit uses them.
func asRead(t *testing.T, text, file string) {
	t.Helper()
	patterns, err := ignorefile.ReadAll(strings.NewReader(text))
	if err != nil {
		return
	}

	for _, p := range patterns {
		p = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(p), "!"))
		if strings.HasPrefix(p, "/") || strings.HasPrefix(p, "!") && strings.ContainsAny(p, "^{|}") {
			return // the library never matches the former, and takes the latter for more than they are only at times
		}
	}

	oracle, err := patternmatcher.New(patterns)
	if err != nil {
		return
	}

	want, err := oracle.MatchesOrParentMatches(file)
	if err != nil {
		return
	}

	m, err := New(patterns)
	if err != nil {
		t.Fatalf("%q: %v", patterns, err)
	}
	if got, _, err := m.Path(file); err != nil || got != want {
		t.Fatalf("%q on %q: %v, %v; the library %v", patterns, file, got, err, want)
	}
}
