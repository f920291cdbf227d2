// Package ignore reads ignore files, such as .dockerignore, and matches paths against their
// patterns.
//
//	patterns, name, err := ignore.Read(dir)     // name: ".dockerignore"
//	m, err := ignore.New(patterns)
//	matched, _, err := m.Path("logs/today")
//
// The rules are those of the Dockerfile reference: a pattern matches a path if it matches the path
// or a directory above it, the last pattern that matches decides, and a pattern that begins with
// "!" includes the path again. "**" stands for any number of directories. Single patterns are
// matched by github.com/moby/patternmatcher, the library of BuildKit.
package ignore

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/moby/patternmatcher"
)

// Matcher decides by patterns which paths are matched. A nil Matcher matches nothing. A Matcher is
// for one goroutine.
type Matcher struct {
	patterns []pattern
	noParent patternmatcher.MatchInfo // says to the library that no directory above the path is matched
}

// pattern is one line of an ignore file.
type pattern struct {
	negative bool     // the line begins with "!"
	parts    []string // its components, without "!"
	odd      bool     // the library may match more than filepath.Match: regular expression characters, or not UTF-8
	match    *patternmatcher.PatternMatcher
}

// Matched holds, for each pattern, whether it matches a directory or a directory above. nil stands
// for the root, which no pattern matches.
type Matched []bool

// New returns the matcher of the patterns, or nil if there are none. Paths are relative, for
// example "src/main.go".
func New(patterns []string) (*Matcher, error) {
	m := Matcher{noParent: noParent()}
	for _, text := range patterns {
		p, ok, err := m.parse(text)
		if err != nil {
			return nil, err
		}
		if ok {
			m.patterns = append(m.patterns, p)
		}
	}
	if len(m.patterns) == 0 {
		return nil, nil
	}

	return &m, nil
}

// parse reads one pattern. ok is false if the pattern matches nothing: the root itself cannot be
// excluded, as in BuildKit.
func (m *Matcher) parse(text string) (p pattern, ok bool, err error) {
	text = strings.TrimSpace(text) // "!" may follow blanks
	if rest, negative := strings.CutPrefix(text, "!"); negative {
		text = strings.TrimSpace(rest)
		if text == "" {
			return p, false, errors.New(`"!" has no pattern: write !PATTERN to include files again`)
		}
		p.negative = true
	}

	text = strings.TrimPrefix(filepath.Clean(text), "/")
	if text == "" || text == "." {
		return p, false, nil
	}
	if strings.ContainsRune(text, 0) {
		return p, false, fmt.Errorf("pattern %q holds a zero byte", text)
	}

	// Each pattern has a matcher of its own, because the library remembers only some results for a
	// list of patterns.
	p.match, err = patternmatcher.New([]string{EscapeBang(text)})
	if err != nil {
		return p, false, fmt.Errorf("pattern %q: %w", text, err)
	}
	// The library compiles a pattern when it first matches, and reports errors then.
	if _, _, err = p.match.MatchesUsingParentResults("a", m.noParent); err != nil {
		return p, false, fmt.Errorf("pattern %q: %w", text, err)
	}

	p.parts = strings.Split(text, "/")
	p.odd = strings.ContainsAny(text, "^{|}") || !utf8.ValidString(text)
	return p, true, nil
}

// noParent returns the result of the library for one pattern that does not match.
func noParent() patternmatcher.MatchInfo {
	m, err := patternmatcher.New([]string{"a"})
	if err != nil {
		return patternmatcher.MatchInfo{}
	}
	_, info, _ := m.MatchesUsingParentResults("b", patternmatcher.MatchInfo{})
	return info
}

// EscapeBang returns a pattern that matches s where a leading "!" would be a negation.
func EscapeBang(s string) string {
	if strings.HasPrefix(s, "!") {
		return `\` + s
	}
	return s
}

// Entry reports whether path is matched. above are the patterns that match the directory of path.
// The result below is the value of above for the entries of path.
func (m *Matcher) Entry(path string, above Matched) (yes bool, below Matched, err error) {
	if m == nil {
		return false, nil, nil
	}

	below = make(Matched, len(m.patterns))
	for i := range m.patterns {
		below[i], err = m.matches(i, path, above)
		if err != nil {
			return false, nil, err
		}
		if below[i] {
			yes = !m.patterns[i].negative
		}
	}

	return yes, below, nil
}

// Path is Entry for a path whose directories were not matched before.
func (m *Matcher) Path(path string) (yes bool, below Matched, err error) {
	if path == "." {
		return false, nil, nil
	}
	for i := range len(path) + 1 {
		if i < len(path) && path[i] != '/' {
			continue
		}
		yes, below, err = m.Entry(path[:i], below)
		if err != nil {
			return false, nil, err
		}
	}

	return yes, below, nil
}

// matches reports whether the pattern i matches path or a directory above.
func (m *Matcher) matches(i int, path string, above Matched) (bool, error) {
	if above != nil && above[i] {
		return true, nil
	}
	p := &m.patterns[i]
	ok, _, err := p.match.MatchesUsingParentResults(path, m.noParent)
	if err != nil {
		return false, fmt.Errorf("pattern %q: %w", strings.Join(p.parts, "/"), err)
	}
	return ok, nil
}

// Because returns the pattern that decides about path, for example "!logs/keep", or "" if no
// pattern matches.
func (m *Matcher) Because(path string) string {
	_, matched, err := m.Path(path)
	if err != nil {
		return ""
	}
	for i, yes := range slices.Backward(matched) {
		if !yes {
			continue
		}
		text := strings.Join(m.patterns[i].parts, "/")
		if m.patterns[i].negative {
			return "!" + text
		}
		return text
	}

	return ""
}

// Excludes reports whether a tree without the matched files has no file at path. A directory that
// is matched counts as there if a negative pattern may include an entry below again.
func (m *Matcher) Excludes(path string, isDir bool) (bool, error) {
	yes, _, err := m.Path(path)
	if err != nil {
		return false, err
	}
	return yes && (!isDir || !m.MayMatchBelow(path, true)), nil
}

// MayMatchBelow reports whether a pattern, a negative or another, may match a path below dir that
// the pattern does not match by matching dir. Where false, a walk need not enter dir.
func (m *Matcher) MayMatchBelow(dir string, negative bool) bool {
	if m == nil {
		return false
	}
	parts := strings.Split(dir, "/")
	odd := !utf8.ValidString(dir) // the library takes all invalid bytes for one character
	for _, p := range m.patterns {
		if p.negative == negative && (odd || p.mayMatchBelow(parts)) {
			return true
		}
	}

	return false
}

func (p *pattern) mayMatchBelow(dir []string) bool {
	for i, part := range p.parts {
		if i == len(dir) || p.odd || strings.Contains(part, "**") {
			return true
		}
		// A pattern that filepath.Match refuses may match: the library reads some patterns
		// differently.
		if ok, err := filepath.Match(part, dir[i]); err == nil && !ok {
			return false
		}
	}

	return false
}
