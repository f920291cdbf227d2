package git

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// server is an HTTP server with git's own back end, for repositories below dir.
type server struct {
	t   *testing.T
	url string
	dir string

	mu    sync.Mutex
	auth  string   // the header Authorization that it wants; empty: any
	asked func()   // called with each request
	seen  []string // headers Authorization of all requests
}

func newServer(t *testing.T) *server {
	t.Helper()
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Skip("no git: ", err)
	}
	s := &server{t: t, dir: t.TempDir()}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"), Stderr: io.Discard,
		Env: []string{
			"GIT_PROJECT_ROOT=" + s.dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1",
			"GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
		},
	}

	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, r.Header.Get("Authorization"))
		auth, asked := s.auth, s.asked
		s.mu.Unlock()
		if asked != nil {
			asked()
		}
		if auth != "" && r.Header.Get("Authorization") != auth {
			w.Header().Set("WWW-Authenticate", "Basic realm=x")
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	}))

	t.Cleanup(h.Close)
	s.url = h.URL

	return s
}

// want sets what the server wants, and forgets what it has seen.
func (s *server) want(auth string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.auth, s.seen = auth, nil
}

// requests are the headers Authorization of all requests.
func (s *server) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// git runs git for the test itself, in the repository name.
func (s *server) git(name, stdin string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = filepath.Join(s.dir, name)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@x", "GIT_AUTHOR_DATE=1000000000 +0000",
		"GIT_COMMITTER_NAME=c", "GIT_COMMITTER_EMAIL=c@x", "GIT_COMMITTER_DATE=1100000000 +0000",
	}

	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("git %v: %v\n%s", args, err, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// repo makes the bare repository x.git.
func (s *server) repo(options ...string) {
	s.t.Helper()
	const name = "x.git"
	if err := os.Mkdir(filepath.Join(s.dir, name), 0o755); err != nil {
		s.t.Fatal(err)
	}
	s.git(name, "", append([]string{"init", "--quiet", "--bare", "--initial-branch=main"}, options...)...)
}

// tree stores a tree: lines "PATH CONTENT" with names as they are, which no checkout would make. A mode may stand
// before: "120000 PATH TARGET".
func (s *server) tree(name string, lines ...string) string {
	s.t.Helper()
	type entry struct{ mode, hash string }
	sub := map[string][]string{}
	entries := map[string]entry{}
	var order []string
	for _, line := range lines {
		mode := "100644"
		if len(line) > 6 && line[6] == ' ' && strings.Trim(line[:6], "01234567") == "" {
			mode, line = line[:6], line[7:]
		}
		path, content, _ := strings.Cut(line, " ")
		if dir, rest, ok := strings.Cut(path, "/"); ok {
			if sub[dir] == nil {
				order = append(order, dir)
			}
			sub[dir] = append(sub[dir], mode+" "+rest+" "+content)
			continue
		}

		hash := content
		if mode != "160000" {
			hash = s.git(name, content, "hash-object", "-w", "--stdin")
		}
		entries[path] = entry{mode, hash}
		order = append(order, path)
	}

	var text strings.Builder
	for _, path := range order {
		e := entries[path]
		kind := "blob"
		switch {
		case sub[path] != nil:
			e, kind = entry{"040000", s.tree(name, sub[path]...)}, "tree"
		case e.mode == "160000":
			kind = "commit"
		}
		fmt.Fprintf(&text, "%s %s %s\t%s\x00", e.mode, kind, e.hash, path)
	}

	return s.git(name, text.String(), "mktree", "-z", "--missing")
}

// commit stores a commit of a tree and sets a ref to it.
func (s *server) commit(ref string, lines ...string) string {
	s.t.Helper()
	const name = "x.git"
	hash := s.git(name, "", "commit-tree", "-m", "m", s.tree(name, lines...))
	s.git(name, "", "update-ref", ref, hash)
	return hash
}

// fetch parses and fetches.
func (s *server) fetch(text string, o Options) (Checkout, error) {
	s.t.Helper()
	ref, ok, err := Parse(text)
	if err != nil || !ok {
		return Checkout{}, fmt.Errorf("parsing: %v, %w", ok, err)
	}
	if o.Environment == nil {
		o.Environment = []string{"PATH=" + os.Getenv("PATH")}
	}
	return Fetch(s.t.Context(), ref, s.t.TempDir(), o)
}

// plainFiles serves repositories as files, without git's back end.
func plainFiles(t *testing.T, dir string) string {
	t.Helper()
	h := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(h.Close)
	return h.URL
}
