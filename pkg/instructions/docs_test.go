package instructions

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	docs    = "../../docs/"
	scripts = "../../tests/integration/testdata/"
	cases   = "../../tests/conformance/cases/"
)

// row is a row of a table whose last column names tests.
type row struct{ first, tests string }

// rows reads the tables that have a column "test".
func rows(t *testing.T, file string) (text string, out []row) {
	t.Helper()
	data, err := os.ReadFile(docs + file)
	if err != nil {
		t.Fatal(err)
	}
	in := false
	for line := range strings.Lines(string(data)) {
		cells := strings.Split(strings.ReplaceAll(strings.TrimSpace(line), `\|`, "/"), "|")
		last := ""
		if len(cells) > 3 {
			last = strings.TrimSpace(cells[len(cells)-2])
		}
		switch {
		case last == "test":
			in = true
		case len(cells) < 3:
			in = false
		case in && !strings.HasPrefix(last, "---"):
			out = append(out, row{strings.TrimSpace(cells[1]), last})
		}
	}

	return string(data), out
}

// TestDocs: each row of dockerfile.md and of threats.md names tests, each test of the documents exists, each instruction and flag has a row, and so
// has each conformance case in which the reference is not followed.
func TestDocs(t *testing.T) {
	var all []string
	for _, file := range []string{"dockerfile.md", "commandline.md", "threats.md"} {
		_, table := rows(t, file)
		for _, r := range table {
			if !strings.HasPrefix(r.tests, "same") {
				checkNames(t, file, r)
			}
			if file == "dockerfile.md" {
				all = append(all, r.first)
			}
		}
	}

	has := func(word string) bool {
		re := regexp.MustCompile("(^|[` ,])" + regexp.QuoteMeta(word) + "($|[` =,\\[])")
		return slices.ContainsFunc(all, re.MatchString)
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

// TestStarts: each cell of the table of threats.md about who starts rbuild names a test that exists.
func TestStarts(t *testing.T) {
	text, err := os.ReadFile(docs + "threats.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "| promise | user | namespace | memory | root |\n")
	if !ok {
		t.Fatal("no table")
	}
	table, _, _ := strings.Cut(section, "\n\n")
	lines := strings.Split(table, "\n")[1:]
	if len(lines) < 9 {
		t.Errorf("%d promises", len(lines))
	}
	for _, line := range lines {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if len(cells) != 5 {
			t.Errorf("%d cells in %s", len(cells), line)
		}
		for _, cell := range cells[1:] {
			checkNames(t, "threats.md", row{cells[0], cell})
		}
	}
}

// checkNames looks for the tests that a row names: a script, a conformance case, or a package and its functions.
func checkNames(t *testing.T, file string, r row) {
	t.Helper()
	names := regexp.MustCompile("([a-z]*) *`([^`]+)`").FindAllStringSubmatch(r.tests, -1)
	if len(names) == 0 && file != "commandline.md" {
		t.Errorf("%s: the row of %s names no test", file, r.first)
	}
	pkg := ""
	for _, n := range names {
		prefix, name := n[1], n[2]
		if prefix != "" {
			pkg = prefix
		}
		if err := exists(pkg, name); err != nil {
			t.Errorf("%s: the row of %s: %v", file, r.first, err)
		}
	}
}

func exists(pkg, name string) error {
	if !regexp.MustCompile(`^(Test|Fuzz|Benchmark)[A-Z]`).MatchString(name) {
		for _, path := range []string{scripts + name + ".txtar", scripts + "../" + name + ".txtar", cases + name} {
			if _, err := os.Stat(path); err == nil {
				return nil
			}
		}
		return fmt.Errorf("no script and no case is named %s", name)
	}

	files, err := testFiles(pkg)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("%s: no tests in package %s", name, pkg)
	}

	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && strings.Contains(string(text), "func "+name+"(") {
			return nil
		}
	}

	return fmt.Errorf("package %s has no %s", pkg, name)
}

// testFiles lists the test files of the package whose directory has the name pkg, or of the command if pkg is "cmd".
func testFiles(pkg string) (files []string, err error) {
	if pkg == "cmd" {
		return filepath.Glob("../../cmd/rbuild/*_test.go")
	}

	for _, root := range []string{"../../pkg", "../../internal"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && filepath.Base(filepath.Dir(path)) == pkg && strings.HasSuffix(path, "_test.go") {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}

	return files, nil
}

// TestStances: the cases that do not follow the reference are those of the document.
func TestStances(t *testing.T) {
	text, err := os.ReadFile(docs + "dockerfile.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "## Where BuildKit is not followed")
	if !ok {
		t.Fatal("no section")
	}
	goldens, err := filepath.Glob("../../tests/conformance/golden/*.json")
	if err != nil || len(goldens) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, path := range goldens {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var golden struct{ Stance string }
		if err := json.Unmarshal(data, &golden); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		if listed := strings.Contains(section, "| `"+name+"` |"); listed != (golden.Stance != "") {
			t.Errorf("%s: stance %q, in the document: %v", name, golden.Stance, listed)
		}
	}
}
