package ignore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/treetest"
)

// TestErrors: the error about an ignore file names the file, the line and one reason.
func TestErrors(t *testing.T) {
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
			if _, _, err := Read(dir, Dockerfile{}); err == nil || err.Error() != filepath.Join(dir, tc.want) {
				t.Errorf("error %v, want %s", err, tc.want)
			}
			if _, err := ReadFile(filepath.Join(dir, ".dockerignore")); err == nil || err.Error() != filepath.Join(dir, tc.want) {
				t.Errorf("--ignorefile: error %v, want %s", err, tc.want)
			}
		})
	}
}

// TestRead: the first ignore file that exists is read, inside its directory.
func TestRead(t *testing.T) {
	outside := treetest.Build(t, t.TempDir(), "f canary 644 canary", "f canary.dockerignore 644 stolen")
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
			dir := treetest.Build(t, t.TempDir(), tc.files...)
			dockerfile := Dockerfile{Path: tc.dockerfile, InContext: tc.inside}
			if tc.dockerfile != "" && !tc.inside {
				dockerfile.Path = filepath.Join(dir, tc.dockerfile)
			}
			got, file, err := Read(dir, dockerfile)
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

// TestReadOfSeveral: the Dockerfiles are asked in order.
func TestReadOfSeveral(t *testing.T) {
	dir := treetest.Build(t, t.TempDir(), "f one 644", "f two 644", "f two.containerignore 644 b", "f three.dockerignore 644 c", "f .dockerignore 644 a")
	file := func(name string) Dockerfile { return Dockerfile{Path: filepath.Join(dir, name)} }
	got, _, err := Read(dir, Dockerfile{}, file("one"), file("two"), file("three"))
	if err != nil || strings.Join(got, " ") != "b" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestReadFile reads the file of --ignorefile.
func TestReadFile(t *testing.T) {
	dir := treetest.Build(t, t.TempDir())
	path := filepath.Join(dir, "odd")
	text := "\xef\xbb\xbf a\r\n#comment\r\n # pattern\n\n/b/\n! c\n./d/../e\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "# pattern", "b", "!c", "e"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := ReadFile(filepath.Join(dir, "absent")); err == nil {
		t.Error("read a file that is not there")
	}
}
