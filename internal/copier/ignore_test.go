package copier

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/ignore"
	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
	"codeberg.org/rbuild/rbuild/internal/treetest"
)

// TestIgnore copies from contexts with ignore patterns.
func TestIgnore(t *testing.T) {
	nstest.Need(t)
	src := t.TempDir()
	for _, f := range []string{
		"logs/a.log", "logs/keep/b.log", "src/m.c", "src/m.o", "src/sub/n.o", "src/sub/special.o", "node_modules/x/i",
		"a/tmp/t", "tmp/t", "README.md", "OTHER.md", "temp1", "temp22", ".env", ".hidden", "foo.bar", "Dockerfile", ".dockerignore",
	} {
		treetest.Build(t, src, "f "+f+" 644 x")
	}

	if err := os.WriteFile(filepath.Join(src, ".dockerignore"), []byte(
		"# comment\nlogs\n!logs/keep\n**/*.o\n!src/sub/special.o\nnode_modules/\n/tmp\n*.md\n!README.md\ntemp?\n.env\nDockerfile\n.dockerignore\n  foo.bar  \n",
	), 0o644); err != nil {
		t.Fatal(err)
	}

	fromFile, name, err := ignore.Read(src)
	if err != nil || name != ".dockerignore" {
		t.Fatalf("ignore.Read: %s, %v", name, err)
	}
	for _, tc := range []struct {
		name     string
		patterns []string
		source   string
		want     string
		err      string
	}{
		{name: "file", patterns: fromFile, source: ".", want: ".hidden README.md a a/tmp a/tmp/t logs logs/keep logs/keep/b.log src src/m.c src/sub src/sub/special.o temp22"},
		{name: "all but one", patterns: []string{"*", "!src/sub/n.o"}, source: ".", want: "src src/sub src/sub/n.o"},
		{name: "last line decides", patterns: []string{"logs/keep", "!logs"}, source: "logs", want: "a.log keep keep/b.log"},
		{name: "last line decides again", patterns: []string{"!logs", "logs/keep"}, source: "logs", want: "a.log"},
		{name: "two stars again", patterns: []string{"**", "!**/special.o"}, source: ".", want: "src src/sub src/sub/special.o"},
		{name: "below an excluded source", patterns: fromFile, source: "logs", want: "keep keep/b.log"},
		{name: "excluded source", patterns: fromFile, source: "tmp", err: "tmp"},
		{name: "excluded directory of a source", patterns: fromFile, source: "node_modules/x/i", err: `source node_modules/x/i: the pattern "node_modules" of the ignore file excludes it`},
		{name: "excluded by the last pattern", patterns: []string{"src", "!src/m.o", "**/*.o"}, source: "src/m.o", err: `the pattern "**/*.o" of the ignore file excludes it`},
		{name: "excluded by a pattern below", patterns: []string{"a/*"}, source: "a/tmp/t", err: `the pattern "a/*" of the ignore file excludes it`},
		{name: "excluded file", patterns: fromFile, source: "Dockerfile", err: "Dockerfile"},
		{name: "excluded by a pattern of the source", patterns: fromFile, source: "*.md", want: "README.md"},
		{name: "nothing", patterns: []string{".", "/", "", "  "}, source: "logs", want: "a.log keep keep/b.log"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			err := do(t, src, tc.patterns, root, Spec{Sources: []string{tc.source}, Dest: "/"})
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want one that names %s", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, line := range treetest.List(t, root) {
				got = append(got, strings.Fields(line)[0])
			}
			if diff := cmp.Diff(tc.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}

	if _, err := OpenContext(src, []string{"[a"}); err == nil {
		t.Error("a malformed pattern is accepted")
	}
}

// TestIgnoreLinks: neither an ignored link nor a link to an ignored file can be copied.
func TestIgnoreLinks(t *testing.T) {
	src := treetest.Build(t, t.TempDir(), "f secret 644 s", "l public secret", "f file 644 f", "l hidden file", "d dir 755", "f dir/x 644 x", "l way dir")
	for _, source := range []string{"public", "hidden", "way/x", "p*"} {
		tree, err := OpenContext(src, []string{"secret", "hidden", "dir"})
		if err != nil {
			t.Fatal(err)
		}
		sel, err := Select(context.Background(), tree, Spec{Sources: []string{source}, Dest: "/x"})
		if source == "p*" {
			if err != nil || len(sel.items) != 0 {
				t.Errorf("%s: %v, %d items", source, err, len(sel.items))
			}
		} else if want := map[string]string{
			"public": `source public: the pattern "secret" of the ignore file excludes secret, to which it leads`,
			"hidden": `source hidden: the pattern "hidden" of the ignore file excludes it`,
			"way/x":  `source way/x: the pattern "dir" of the ignore file excludes dir/x, to which it leads`,
		}[source]; err == nil || err.Error() != want || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: error %v, want %s", source, err, want)
		}

		tree.Close()
	}
}
