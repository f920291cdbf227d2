package copier

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
)

func TestIgnore(t *testing.T) {
	nstest.Need(t)
	src := t.TempDir()
	for _, f := range []string{
		"logs/a.log", "logs/keep/b.log", "src/m.c", "src/m.o", "src/sub/n.o", "src/sub/special.o", "node_modules/x/i",
		"a/tmp/t", "tmp/t", "README.md", "OTHER.md", "temp1", "temp22", ".env", ".hidden", "foo.bar", "Dockerfile", ".dockerignore",
	} {
		build(t, src, "f "+f+" 644 x")
	}

	if err := os.WriteFile(filepath.Join(src, ".dockerignore"), []byte(
		"# comment\nlogs\n!logs/keep\n**/*.o\n!src/sub/special.o\nnode_modules/\n/tmp\n*.md\n!README.md\ntemp?\n.env\nDockerfile\n.dockerignore\n  foo.bar  \n",
	), 0o644); err != nil {
		t.Fatal(err)
	}

	fromFile, name, err := ReadIgnore(src, Dockerfile{})
	if err != nil || name != ".dockerignore" {
		t.Fatalf("ReadIgnore: %s, %v", name, err)
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
			for _, line := range list(t, root) {
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

// TestIgnoreErrors: a mistake in an ignore file is told by file and line, with one reason.
func TestIgnoreErrors(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"nothing behind !", "a\n# comment\n\n  !  \nb\n", `.dockerignore:4: "!" has no pattern: write !PATTERN to include files again`},
		{"malformed", "\uFEFFa\r\n[b\r\n", `.dockerignore:2: pattern "[b": syntax error in pattern`},
		{"zero byte", "a\x00b", `.dockerignore:1: pattern "a\x00b" holds a zero byte`},
		{"long line", "a\n" + strings.Repeat("b", 1<<16), `.dockerignore:2: the line has more than 65535 bytes`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, ".dockerignore"), []byte(tc.text), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, _, err := ReadIgnore(dir, Dockerfile{}); err == nil || err.Error() != filepath.Join(dir, tc.want) {
				t.Errorf("error %v, want %s", err, tc.want)
			}
			if _, err := ReadIgnoreFile(filepath.Join(dir, ".dockerignore")); err == nil || err.Error() != filepath.Join(dir, tc.want) {
				t.Errorf("--ignorefile: error %v, want %s", err, tc.want)
			}
		})
	}
}

// An ignored link and a link to what is ignored are both not there.
func TestIgnoreLinks(t *testing.T) {
	src := build(t, t.TempDir(), "f secret 644 s", "l public secret", "f file 644 f", "l hidden file", "d dir 755", "f dir/x 644 x", "l way dir")
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

func TestReadIgnore(t *testing.T) {
	outside := build(t, t.TempDir(), "f canary 644 canary", "f canary.dockerignore 644 stolen")
	for _, tc := range []struct {
		name       string
		files      []string
		dockerfile string
		inside     bool
		want, file string
		err        string
	}{
		{name: "none"},
		{name: "docker", files: []string{"f .dockerignore 644 a"}, want: "a", file: ".dockerignore"},
		{name: "container first", files: []string{"f .dockerignore 644 a", "f .containerignore 644 b"}, want: "b", file: ".containerignore"},
		{name: "specific first", files: []string{"f .dockerignore 644 a", "f sub/app.dockerignore 644 c"}, dockerfile: "sub/app", want: "c", file: "sub/app.dockerignore"},
		{name: "specific and empty", files: []string{"f .dockerignore 644 a", "f app.dockerignore 644"}, dockerfile: "app", file: "app.dockerignore"},
		{name: "link inside", files: []string{"f x 644 a", "l .dockerignore /x"}, want: "a", file: ".dockerignore"},
		{name: "in the context", files: []string{"f .dockerignore 644 a", "d sub 755", "f sub/app.dockerignore 644 c", "l s sub"}, dockerfile: "s/app", inside: true, want: "c", file: "s/app.dockerignore"},
		{name: "in the context, not beside the working directory", dockerfile: "no/such/app", inside: true},
		{name: "of the context only", files: []string{"l s " + outside}, dockerfile: "s/canary", inside: true},
		{name: "link outside", files: []string{"l .dockerignore " + outside + "/canary"}},
		{name: "fifo", files: []string{"p .dockerignore 644"}, err: "fifo"},
		{name: "directory", files: []string{"d .dockerignore 755"}, err: "directory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := build(t, t.TempDir(), tc.files...)
			dockerfile := Dockerfile{Path: tc.dockerfile, InContext: tc.inside}
			if tc.dockerfile != "" && !tc.inside {
				dockerfile.Path = filepath.Join(dir, tc.dockerfile)
			}
			got, file, err := ReadIgnore(dir, dockerfile)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want one that names %s", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if rel, err := filepath.Rel(dir, file); err == nil && filepath.IsAbs(file) {
				file = rel
			}
			if diff := cmp.Diff([]string{tc.want, tc.file}, []string{strings.Join(got, " "), file}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadIgnoreOfSeveral(t *testing.T) {
	dir := build(t, t.TempDir(), "f one 644", "f two 644", "f two.containerignore 644 b", "f three.dockerignore 644 c", "f .dockerignore 644 a")
	file := func(name string) Dockerfile { return Dockerfile{Path: filepath.Join(dir, name)} }
	got, _, err := ReadIgnore(dir, Dockerfile{}, file("one"), file("two"), file("three"))
	if err != nil || strings.Join(got, " ") != "b" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestReadIgnoreFile(t *testing.T) {
	dir := build(t, t.TempDir())
	path := filepath.Join(dir, "odd")
	text := "\xef\xbb\xbf a\r\n#comment\r\n # pattern\n\n/b/\n! c\n./d/../e\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadIgnoreFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "# pattern", "b", "!c", "e"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := ReadIgnoreFile(filepath.Join(dir, "absent")); err == nil {
		t.Error("read a file that is not there")
	}
}

// The matcher agrees with the library's own slow way, and never says that nothing below a directory can match
// where something does.
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
		m, err := newMatcher(patterns)
		if err != nil || m == nil || file == "" || strings.ContainsAny(file, "\x00\n") {
			return
		}

		var clean []string
		for _, p := range m.patterns {
			text := escapeBang(strings.Join(p.parts, "/"))
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

		got, _, err := m.path(file)
		if err != nil || got != want {
			t.Fatalf("%q on %q: %v, %v; want %v", clean, file, got, err, want)
		}
		checkWalk(t, m, clean, file, want)
		asRead(t, text, file)
	})
}

// checkWalk goes down to file as a walk does, which looks into a directory only if something below may be in.
func checkWalk(t *testing.T, m *matcher, clean []string, file string, want bool) {
	t.Helper()
	var above matched
	for i := range len(file) + 1 {
		if i < len(file) && file[i] != '/' {
			continue
		}

		out, below, err := m.dir(file[:i], above)
		if err != nil {
			t.Fatal(err)
		}
		above = below
		switch {
		case i == len(file) && out != want:
			t.Fatalf("%q on %q from its directory: %v, want %v", clean, file, out, want)
		case i < len(file) && out && !want && !m.mayMatchBelow(file[:i], true):
			t.Fatalf("%q: nothing is let in below %q, but %q is", clean, file[:i], file)
		case i < len(file) && !out && want && !m.mayMatchBelow(file[:i], false):
			t.Fatalf("%q: nothing is matched below %q, but %q is", clean, file[:i], file)
		}
	}
}

// asRead compares an ignore file of that text with what the library makes of it: reader and matcher as others use them.
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

	m, err := newMatcher(patterns)
	if err != nil {
		t.Fatalf("%q: %v", patterns, err)
	}
	if got, _, err := m.path(file); err != nil || got != want {
		t.Fatalf("%q on %q: %v, %v; the library %v", patterns, file, got, err, want)
	}
}
