package instructions

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDocumented: every instruction and every flag has a row in a table of docs/dockerfile.md that names tests. Package
// tests/docs checks that these tests exist.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/dockerfile.md")
	if err != nil {
		t.Fatal(err)
	}

	var first []string // first column of every row of a table with a last column "test"
	inTable := false
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.ReplaceAll(strings.TrimSpace(line), `\|`, "/"), "|")
		switch {
		case len(cells) < 3:
			inTable = false
		case strings.TrimSpace(cells[len(cells)-2]) == "test":
			inTable = true
		case inTable:
			first = append(first, strings.TrimSpace(cells[1]))
		}
	}

	has := func(word string) bool {
		re := regexp.MustCompile("(^|[` ,])" + regexp.QuoteMeta(word) + "($|[` =,\\[])")
		return slices.ContainsFunc(first, re.MatchString)
	}
	for _, name := range instructionNames() {
		if !has(name) {
			t.Errorf("dockerfile.md has no row of %s", name)
		}
		for _, flag := range flags[name] {
			if !has("--" + flag) {
				t.Errorf("dockerfile.md has no row of %s --%s", name, flag)
			}
		}
	}
}
