package git

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
)

// list gives the files below dir: path, mode, content or target.
func list(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}

		name, _ := filepath.Rel(dir, path)
		if name == ".git" {
			out = append(out, name)
			return filepath.SkipDir
		}

		info, err := d.Info()
		if err != nil {
			return err
		}

		line := fmt.Sprintf("%s %v", name, info.Mode())
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			out = append(out, line+" "+target)
			return err
		case d.Type().IsRegular():
			text, err := os.ReadFile(path)
			out = append(out, line+" "+string(text))
			return err
		}

		out = append(out, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFetch(t *testing.T) {
	nstest.Need(t)
	s := newServer(t)
	s.repo()
	first := s.commit("refs/heads/main", "f 1", "100755 run sh", "d/e/g G", "120000 l f", "120000 out /etc")
	second := s.commit("refs/heads/other", "f 2")
	s.git("x.git", "", "tag", "-a", "-m", "m", "v1", first)
	s.git("x.git", "", "tag", "other", first) // a branch has this name too
	tag := s.git("x.git", "", "rev-parse", "v1")
	s.git("x.git", "", "update-ref", "refs/pull/1/head", second)
	third := s.commit("refs/heads/gone", "f 3")
	s.git("x.git", "", "update-ref", "-d", "refs/heads/gone")
	all := []string{"d drwxr-xr-x", "d/e drwxr-xr-x", "d/e/g -rw-r--r-- G", "f -rw-r--r-- 1", "l Lrwxrwxrwx f", "out Lrwxrwxrwx /etc", "run -rwxr-xr-x sh"}
	two := []string{"f -rw-r--r-- 2"}
	for _, tc := range []struct {
		name, text string
		want       []string
		commit     string
		err        string
	}{
		{"HEAD", "x.git", all, first, ""},
		{"branch", "x.git#main", all, first, ""},
		{"branch before tag", "x.git#other", two, second, ""},
		{"tag by its full name", "x.git#refs/tags/other", all, first, ""},
		{"tag by query", "x.git?tag=other", all, first, ""},
		{"branch by query", "x.git?branch=other", two, second, ""},
		{"annotated tag", "x.git#v1", all, first, ""},
		{"other ref", "x.git#pull/1/head", two, second, ""},
		{"hash", "x.git#" + second, two, second, ""},
		{"hash in capitals", "x.git#" + strings.ToUpper(second), two, second, ""},
		{"hash of a tag", "x.git#" + tag, all, first, ""},
		{"hash that no branch has", "x.git#" + third, []string{"f -rw-r--r-- 3"}, third, ""},
		{"subdirectory", "x.git#:d/e", []string{"g -rw-r--r-- G"}, first, ""},
		{"subdirectory with dots", "x.git#:/../d/./e/", []string{"g -rw-r--r-- G"}, first, ""},
		{"checksum", "x.git?checksum=" + first[:10], all, first, ""},
		{"checksum of a tag", "x.git?ref=v1&checksum=" + tag, all, first, ""},
		{"checksum of a tag's commit", "x.git?ref=v1&checksum=" + strings.ToUpper(first), all, first, ""},
		{"by commit", "x.git?ref=nothing&fetch-by-commit&checksum=" + second, two, second, ""},
		{"wrong checksum", "x.git?checksum=" + second, nil, "", "the checksum is " + first + ", not " + second},
		{"wrong checksum of a hash", "x.git?checksum=" + second + "#" + first, nil, "", "the checksum is " + first},
		{"no such branch", "x.git#no", nil, "", "neither a branch nor a tag no"},
		{"short hash", "x.git#" + first[:8], nil, "", "full hash"},
		{"no such hash", "x.git#" + strings.Repeat("0", 39) + "1", nil, "", "it has no commit 0000"},
		{"no such subdirectory", "x.git#:no", nil, "", "has no directory no"},
		{"file as subdirectory", "x.git#:f", nil, "", "has no directory f"},
		{"link as subdirectory", "x.git#:out", nil, "", "has no directory out"},
		{"subdirectory behind a link", "x.git#:out/ssl", nil, "", "has no directory out/ssl"},
		{"no such repository", "y.git", nil, "", "not found"},
		{"hash of a blob", "x.git#" + s.git("x.git", "", "rev-parse", "main:f"), nil, "", "it has no commit"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.t = t
			c, err := s.fetch(s.url+"/"+tc.text, Options{})
			if tc.want == nil {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want one that says %s", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, list(t, c.Dir)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if c.Commit != tc.commit || c.Time.Unix() != 1100000000 {
				t.Errorf("commit %s, want %s; time %v", c.Commit, tc.commit, c.Time)
			}
		})
	}
}

func TestFetchSHA256(t *testing.T) {
	nstest.Need(t)
	s := newServer(t)
	s.repo("--object-format=sha256")
	want := s.commit("refs/heads/main", "f 1")
	for _, text := range []string{"/x.git", "/x.git#" + want} {
		if c, err := s.fetch(s.url+text, Options{}); err != nil || c.Commit != want || len(want) != 64 {
			t.Errorf("%s: %v, %v", text, c, err)
		}
	}
}

// A server that has no commit alone, and one that has none without its whole history, are asked for all.
func TestFetchWithoutShallow(t *testing.T) {
	nstest.Need(t)
	s := newServer(t)
	s.repo()
	first := s.commit("refs/heads/main", "f 1")
	s.git("x.git", "", "update-server-info")
	for _, want := range []string{"", "#" + first} {
		plain := plainFiles(t, s.dir)
		c, err := s.fetch(plain+"/x.git"+want, Options{})
		if err != nil || c.Commit != first {
			t.Errorf("%q: %v, %v", want, c, err)
		}
	}
}

func TestKeepGitDir(t *testing.T) {
	nstest.Need(t)
	s := newServer(t)
	s.repo()
	s.commit("refs/heads/main", "f 0")
	head := s.commit("refs/heads/main", "f 1", "d/g G")
	get := func(text string) []string {
		ref := strings.Replace(s.url, "://", "://user:hidden@", 1) + text
		c, err := s.fetch(ref, Options{KeepGitDir: true})
		if err != nil {
			t.Fatal(err)
		}
		if text != "/x.git" {
			return list(t, c.Dir)
		}

		name, _ := filepath.Rel(s.dir, c.Dir)
		if about := s.git(name, "", "ls-files", "--debug", "f"); !strings.Contains(about, "mtime: 0:0") || !strings.Contains(about, "ino: 0") {
			t.Errorf("the index knows this file system: %s", about)
		}
		for _, q := range []struct {
			want string
			args []string
		}{
			{head, []string{"rev-parse", "HEAD"}},
			{"main", []string{"branch", "--format=%(refname:short)", "--list", "main"}},
			{"", []string{"status", "--porcelain"}},
			{"1", []string{"rev-list", "--count", "HEAD"}},
			{s.url + "/x.git", []string{"config", "remote.origin.url"}},
		} {
			if got := s.git(name, "", q.args...); got != q.want {
				t.Errorf("%v: %q, want %q", q.args, got, q.want)
			}
		}

		if err := filepath.WalkDir(c.Dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			if strings.Contains(string(text), "hidden") || strings.Contains(string(text), c.Dir) {
				t.Errorf("%s holds a password or a path", path)
			}
			return err
		}); err != nil {
			t.Error(err)
		}

		return list(t, c.Dir)
	}

	if got := get("/x.git"); !slices.Contains(got, ".git") || !slices.Contains(got, "f -rw-r--r-- 1") {
		t.Errorf("got %v", got)
	}
	if got := get("/x.git#:d"); !slices.Equal(got, []string{"g -rw-r--r-- G"}) {
		t.Errorf("of a subdirectory: %v", got)
	}
}

func TestCommitTimes(t *testing.T) {
	nstest.Need(t)
	s := newServer(t)
	s.repo()
	s.commit("refs/heads/main", "d/f 1", "120000 l d/f")
	for _, o := range []Options{{}, {CommitTimes: true}} {
		c, err := s.fetch(s.url+"/x.git", o)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"", "d", "d/f", "l"} {
			info, err := os.Lstat(filepath.Join(c.Dir, name))
			if err != nil || (info.ModTime().Unix() == 1100000000) != o.CommitTimes {
				t.Errorf("%q: %v, %v", name, info.ModTime(), err)
			}
		}
	}
}
