package copier

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/moby/patternmatcher"
)

// matcher decides by patterns of .dockerignore: a path is matched by the last pattern that matches it or a directory above
// it, and that one says yes, or no if it begins with "!". It is not safe for concurrent use. A nil matcher matches nothing.
type matcher struct {
	patterns []pattern
	unasked  patternmatcher.MatchInfo // tells the library that the directories above have been looked at
}

type pattern struct {
	negative bool
	parts    []string
	odd      bool // it holds what the library's regular expressions take for more than itself
	match    *patternmatcher.PatternMatcher
}

// matched says of a directory which patterns match it or one above it. nil is the root, which none matches.
type matched []bool

func newMatcher(patterns []string) (*matcher, error) {
	m := matcher{unasked: nothingAbove()}
	for _, text := range patterns {
		p := pattern{}
		// "!" may stand before blanks; the root itself cannot be excluded, as in the reference engine.
		text = strings.TrimSpace(text)
		if rest, ok := strings.CutPrefix(text, "!"); ok {
			if p.negative, text = true, strings.TrimSpace(rest); text == "" {
				return nil, errors.New(`"!" has no pattern: write !PATTERN to include files again`)
			}
		}

		text = strings.TrimPrefix(filepath.Clean(text), "/")
		if text == "" || text == "." {
			continue
		}
		if strings.ContainsRune(text, 0) {
			return nil, fmt.Errorf("pattern %q holds a zero byte", text)
		}

		var err error

		// A pattern of its own each: the library remembers of a list only what it happened to look at.
		if p.match, err = patternmatcher.New([]string{escapeBang(text)}); err != nil {
			return nil, fmt.Errorf("pattern %q: %w", text, err)
		}

		// The library compiles a pattern when it first matches.
		if _, _, err = p.match.MatchesUsingParentResults("a", m.unasked); err != nil {
			return nil, fmt.Errorf("pattern %q: %w", text, err)
		}

		p.parts, p.odd = strings.Split(text, "/"), strings.ContainsAny(text, "^{|}") || !utf8.ValidString(text)
		m.patterns = append(m.patterns, p)
	}

	if len(m.patterns) == 0 {
		return nil, nil
	}

	return &m, nil
}

// nothingAbove returns what the library says of a list of one pattern that does not match.
func nothingAbove() patternmatcher.MatchInfo {
	var info patternmatcher.MatchInfo
	if m, err := patternmatcher.New([]string{"a"}); err == nil {
		_, info, _ = m.MatchesUsingParentResults("b", info)
	}
	return info
}

// escapeBang keeps the library from taking a second "!" for a negation.
func escapeBang(s string) string {
	if strings.HasPrefix(s, "!") {
		return `\` + s
	}
	return s
}

// dir reports whether path, in a directory of which above says what matches it, is matched, and returns what its
// entries need as above if it is a directory.
func (m *matcher) dir(path string, above matched) (yes bool, below matched, err error) {
	if m == nil {
		return false, nil, nil
	}

	below = make(matched, len(m.patterns))
	for i := range m.patterns {
		if below[i], err = m.one(i, path, above); err != nil {
			return false, nil, err
		}
		if below[i] {
			yes = !m.patterns[i].negative
		}
	}

	return yes, below, nil
}

// path is dir for a path whose parents have not been asked about.
func (m *matcher) path(path string) (yes bool, below matched, err error) {
	if path == "." {
		return false, nil, nil
	}

	for i := range len(path) + 1 {
		if i < len(path) && path[i] != '/' {
			continue
		}
		if yes, below, err = m.dir(path[:i], below); err != nil {
			return false, nil, err
		}
	}

	return yes, below, nil
}

// because returns the pattern that decides about path, as the ignore file has it; empty: none does.
func (m *matcher) because(path string) string {
	_, matches, err := m.path(path)
	if err != nil {
		return ""
	}
	for i, yes := range slices.Backward(matches) {
		if yes {
			p := m.patterns[i]
			return strings.Repeat("!", map[bool]int{true: 1}[p.negative]) + strings.Join(p.parts, "/")
		}
	}
	return ""
}

func (m *matcher) one(i int, path string, above matched) (bool, error) {
	if above != nil && above[i] {
		return true, nil
	}
	p := &m.patterns[i]
	ok, _, err := p.match.MatchesUsingParentResults(path, m.unasked)
	if err != nil {
		return false, fmt.Errorf("pattern %q: %w", strings.Join(p.parts, "/"), err)
	}
	return ok, nil
}

// mayMatchBelow reports whether a pattern, negative or not as asked, could match a path below dir that it
// does not match itself.
func (m *matcher) mayMatchBelow(dir string, negative bool) bool {
	if m == nil {
		return false
	}
	parts := strings.Split(dir, "/")
	odd := !utf8.ValidString(dir) // its bytes are all one character to the library
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
		// A pattern the library reads otherwise than filepath.Match is one that may match.
		if ok, err := filepath.Match(part, dir[i]); err == nil && !ok {
			return false
		}
	}
	return false
}
