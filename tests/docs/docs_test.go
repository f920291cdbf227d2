// Package docs tests that the pages in docs name tests and files that exist.
package docs

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

// row is a row of a table with a last column that names tests.
type row struct{ first, tests string }

// rows reads the tables of a page that have a last column "test".
func rows(t *testing.T, file string) (out []row) {
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

	return out
}

// TestNamedTestsExist: every row of dockerfile.md and threats.md names a test, and every test that these pages and
// commandline.md name exists. TestDocumented of pkg/instructions checks that every instruction and flag has a row.
func TestNamedTestsExist(t *testing.T) {
	for file, least := range map[string]int{"dockerfile.md": 120, "commandline.md": 50, "threats.md": 50} {
		table := rows(t, file)
		if len(table) < least {
			t.Errorf("%s: %d rows that name tests, want at least %d", file, len(table), least)
		}
		for _, r := range table {
			if !strings.HasPrefix(r.tests, "same") {
				checkNames(t, file, r)
			}
		}
	}
}

// TestPromisesNameTests: in the table "promise" of threats.md, every cell names a test that exists.
func TestPromisesNameTests(t *testing.T) {
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

// checkNames looks for the tests that a row names. `multistage` is a script or a conformance case; plan `TestEpoch` is a
// function in the tests of package plan.
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

// testFiles lists the test files of the directories with the name pkg, for example plan or instructions. The name cmd means
// cmd/rbuild.
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

// TestDeviationsAreListed: the section "Where BuildKit is not followed" of dockerfile.md lists exactly the conformance cases
// with a stance.
func TestDeviationsAreListed(t *testing.T) {
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

// TestNamedFilesExist: a path in backquotes, such as `internal/builder/stage.go`, exists in the repository.
func TestNamedFilesExist(t *testing.T) {
	pages, err := filepath.Glob("../../*.md")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob(docs + "*.md")
	if err != nil || len(more) == 0 {
		t.Fatalf("no pages: %v", err)
	}

	name := regexp.MustCompile("`((?:cmd|internal|pkg|docs|hack|tests|deploy|examples)/[A-Za-z0-9_./-]+)")
	page := regexp.MustCompile("`([a-z]+\\.md)`")
	for _, file := range append(pages, more...) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}

		var paths []string
		for _, m := range name.FindAllStringSubmatch(string(text), -1) {
			paths = append(paths, "../../"+strings.TrimRight(m[1], "."))
		}
		for _, m := range page.FindAllStringSubmatch(string(text), -1) {
			paths = append(paths, filepath.Join(filepath.Dir(file), m[1]))
		}
		for _, path := range paths {
			if _, err := os.Stat(path); err != nil && !placeholder(path) {
				t.Errorf("%s names %s: %v", filepath.Base(file), path, err)
			}
		}
	}
}

// TestNamedFunctionsExist: a test function that any page names, such as `TestParse`, exists in some package.
func TestNamedFunctionsExist(t *testing.T) {
	declared := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Z]\w*)\(`)
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range function.FindAllStringSubmatch(string(text), -1) {
			declared[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	pages, err := filepath.Glob(docs + "*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	named := regexp.MustCompile("`(?:[a-z]+\\.)?((?:Test|Fuzz|Benchmark)[A-Z]\\w*)`")
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			if !declared[m[1]] {
				t.Errorf("%s names %s, which does not exist", filepath.Base(page), m[1])
			}
		}
	}
}

// placeholder reports whether a path contains a word in upper case that stands for a name, as in testdata/NAME.txtar.
func placeholder(path string) bool {
	return slices.ContainsFunc(strings.FieldsFunc(path, func(r rune) bool { return r == '/' || r == '.' }), func(part string) bool {
		return len(part) > 1 && strings.ToUpper(part) == part
	})
}
