package source

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
)

// repository serves the repository /x.git, whose one commit is of the year 2004, as files.
func repository(t *testing.T) (url, commit string) {
	t.Helper()
	dir := t.TempDir()
	script := `git init -q -b main w && cd w && echo F > f && git add f && git commit -q -m m && git clone -q --bare . ../x.git &&
		git -C ../x.git update-server-info && git rev-parse HEAD`
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@x", "GIT_COMMITTER_NAME=c", "GIT_COMMITTER_EMAIL=c@x",
		"GIT_COMMITTER_DATE=1100000000 +0000")
	out, err := cmd.Output()
	if err != nil {
		t.Skip("no git: ", err)
	}
	h := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(h.Close)
	return h.URL + "/x.git", strings.TrimSpace(string(out))
}

func TestGit(t *testing.T) {
	nstest.Need(t)
	url, commit := repository(t)
	a := &Access{Environment: os.Environ()}
	yes, no := true, false
	for _, tc := range []struct {
		name, text string
		o          GitOptions
		git        bool
		err        string
	}{
		{"plain", url, GitOptions{}, false, ""},
		{"git directory", url, GitOptions{KeepGitDir: &yes}, true, ""},
		{"git directory of the URL", url + "?keep-git-dir", GitOptions{}, true, ""},
		{"the same twice", url + "?keep-git-dir&checksum=" + commit, GitOptions{KeepGitDir: &yes, Checksum: commit}, true, ""},
		{"contradiction", url + "?keep-git-dir", GitOptions{KeepGitDir: &no}, false, "contradicts"},
		{"two checksums", url + "?checksum=abcd", GitOptions{Checksum: commit}, false, "two checksums"},
		{"wrong checksum", url, GitOptions{Checksum: "abcd"}, false, "the checksum is " + commit},
		{"digest as checksum", url, GitOptions{Checksum: "sha256:" + strings.Repeat("0", 64)}, false, "not the beginning of a commit's hash"},
		{"no repository", strings.TrimSuffix(url, ".git"), GitOptions{}, false, "no git repository"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, warnings, err := a.Git(t.Context(), tc.text, t.TempDir(), tc.o)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v, want one that says %s", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()

			_, gitErr := os.Lstat(filepath.Join(r.Tree.Root().Name(), ".git"))
			if !strings.HasPrefix(r.Commit, commit) || (gitErr == nil) != tc.git || len(warnings) > 0 {
				t.Errorf("%+v, %v, %v", r, gitErr, warnings)
			}
		})
	}
}

func TestGitContext(t *testing.T) {
	nstest.Need(t)
	url, commit := repository(t)
	a := &Access{Environment: os.Environ()}
	for _, tc := range []struct {
		text   string
		o      ContextOptions
		git    bool
		commit bool // the files have its time
	}{
		{url, ContextOptions{}, false, false},
		{url, ContextOptions{KeepGitDir: true, CommitTimes: true}, true, true},
		{url + "?keep-git-dir=false", ContextOptions{KeepGitDir: true}, false, false},
		{url + "?keep-git-dir&mtime=commit", ContextOptions{}, true, true},
	} {
		c, err := a.Context(t.Context(), tc.text, t.TempDir(), tc.o)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(c.Dir, "f"))
		if err != nil {
			t.Fatal(err)
		}
		_, gitErr := os.Lstat(filepath.Join(c.Dir, ".git"))
		if c.Commit != commit || c.Time.Unix() != 11e8 || (gitErr == nil) != tc.git || (info.ModTime().Unix() == 11e8) != tc.commit {
			t.Errorf("%s, %+v: %+v, %v, %v", tc.text, tc.o, c, gitErr, info.ModTime())
		}
	}

	if got, err := a.Time(t.Context(), url, t.TempDir(), commit); err != nil || got.Unix() != 11e8 {
		t.Errorf("time %v, %v", got, err)
	}
	if _, err := a.Context(t.Context(), "file:///etc", t.TempDir(), ContextOptions{}); err == nil {
		t.Error("a local URL is a context")
	}
}
