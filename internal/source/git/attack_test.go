package git

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
)

// canary is a file that an attack would make.
func canary(t *testing.T) (path string, check func()) {
	path = filepath.Join(t.TempDir(), "canary")
	return path, func() {
		t.Helper()
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the attack succeeded: %v", err)
		}
	}
}

func TestInjection(t *testing.T) {
	nstest.Need(t)
	s := newServer(t)
	s.repo()
	s.commit("refs/heads/main", "f 1")
	file, check := canary(t)
	env := []string{"PATH=" + os.Getenv("PATH")}
	for name, ref := range map[string]Ref{
		"option as name":       {URL: s.url + "/x.git", Name: "--upload-pack=touch " + file},
		"option as URL":        {URL: "--upload-pack=touch " + file},
		"command as URL":       {URL: "ext::sh -c touch% " + file},
		"command as scheme":    {URL: "ext://sh -c touch% " + file},
		"local URL":            {URL: "file://" + s.dir + "/x.git"},
		"local path":           {URL: s.dir + "/x.git"},
		"option as host":       {URL: "ssh://-oProxyCommand=touch%20" + file + "/x"},
		"option as SCP host":   {URL: "git@-oProxyCommand:x"},
		"option as user":       {URL: "ssh://-oProxyCommand=x@h/x"},
		"refspec":              {URL: s.url + "/x.git", Name: "main:refs/heads/x"},
		"pattern":              {URL: s.url + "/x.git", Name: "m*"},
		"line":                 {URL: s.url + "/x.git\nx"},
		"password for ssh":     {URL: "ssh://u:hidden@h/x"},
		"password for git":     {URL: "git://u:hidden@h/x"},
		"no host":              {URL: "https:///x.git"},
		"checksum no number":   {URL: s.url + "/x.git", Checksum: "--help"},
		"checksum too short":   {URL: s.url + "/x.git", Checksum: "abc"},
		"commit not full":      {URL: s.url + "/x.git", Checksum: "abcd", byCommit: true},
		"newline in directory": {URL: s.url + "/x.git", Subdir: "a\nb"},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(s.requests())
			_, err := Fetch(t.Context(), ref, t.TempDir(), Options{Environment: env})
			if err == nil || strings.Contains(err.Error(), "hidden") || len(s.requests()) != before {
				t.Errorf("error %v, %d requests", err, len(s.requests())-before)
			}
			check()
		})
	}
}

// What Parse and check refuse git refuses as well.
func TestInjectionSecondLine(t *testing.T) {
	nstest.Need(t)
	s := newServer(t)
	s.repo()
	s.commit("refs/heads/main", "f 1")
	file, check := canary(t)
	for _, ref := range []Ref{
		{URL: "file://" + s.dir + "/x.git"},
		{URL: s.dir + "/x.git"},
		{URL: "ext::sh -c touch% " + file},
		{URL: "--upload-pack=touch " + file},
		{URL: s.url + "/x.git", Name: "--upload-pack=touch " + file},
	} {
		f, err := newFetcher(t.Context(), ref, t.TempDir(), Options{Environment: []string{"PATH=" + os.Getenv("PATH")}, limits: defaultLimits()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.fetch(t.Context()); err == nil {
			t.Errorf("%s: no error", ref)
		}
		if err := f.close(); err != nil {
			t.Error(err)
		}
		check()
	}
}

// The configuration of the user, of the environment and of a repository around the directory has no effect.
func TestConfigurationOfHost(t *testing.T) {
	nstest.Need(t)
	s := newServer(t)
	s.repo()
	s.commit("refs/heads/main", ".gitattributes * filter=evil", "f 1")
	file, check := canary(t)
	home, around := t.TempDir(), t.TempDir()
	templates := filepath.Join(home, "templates")
	if err := os.MkdirAll(filepath.Join(templates, "hooks"), 0o755); err != nil {
		t.Fatal(err)
	}
	hook := "#!/bin/sh\ntouch " + file + "\n"
	for _, name := range []string{"post-checkout", "reference-transaction", "post-index-change"} {
		if err := os.WriteFile(filepath.Join(templates, "hooks", name), []byte(hook), 0o755); err != nil {
			t.Fatal(err)
		}
	}

	config := fmt.Sprintf("[filter \"evil\"]\n\tsmudge = touch %[1]s; cat\n\trequired = true\n[core]\n\tfsmonitor = touch %[1]s\n"+
		"\thooksPath = %[2]s/hooks\n[init]\n\ttemplateDir = %[2]s\n[url \"http://127.0.0.1:1/\"]\n\tinsteadOf = http://127\n", file, templates)
	if err := os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	name, _ := filepath.Rel(s.dir, around)
	s.git(name, "", "init", "--quiet")
	if err := os.WriteFile(filepath.Join(around, ".git", "config"), []byte("[core]\n\trepositoryformatversion = 0\n"+config), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(around, "d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ref, _, err := Parse(s.url + "/x.git")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Fetch(t.Context(), ref, dir, Options{KeepGitDir: true, Environment: []string{
		"PATH=.:" + os.Getenv("PATH"), "HOME=" + home, "XDG_CONFIG_HOME=" + home, "GIT_CONFIG_GLOBAL=" + home + "/.gitconfig",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=core.fsmonitor", "GIT_CONFIG_VALUE_0=touch " + file,
		"GIT_TEMPLATE_DIR=" + templates, "GIT_DIR=" + around + "/.git", "GIT_PROXY_COMMAND=touch " + file,
	}})
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(c.Dir, "f")); err != nil || string(text) != "1" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := os.Lstat(filepath.Join(c.Dir, ".git", "hooks")); err == nil {
		t.Error("hooks were copied")
	}
	check()
}

// What a repository may hold to lead a careless git astray.
func TestHostileRepository(t *testing.T) {
	nstest.Need(t)
	file, check := canary(t)
	commit := strings.Repeat("1", 40)
	for _, tc := range []struct {
		name  string
		lines []string
		err   string // empty: it is harmless
	}{
		{"git directory", []string{".git/config [core]"}, "git fetch: "},
		{"git directory in capitals", []string{".GIT/config [core]"}, "git fetch: "},
		{"git directory for Windows", []string{"git~1/config [core]"}, "git fetch: "},
		{"git file", []string{".git gitdir: /etc"}, "git fetch: "},
		{"parent", []string{"../x 1"}, "git fetch: "},
		{"itself", []string{"./x 1"}, "git fetch: "},
		{"link to attributes", []string{"120000 .gitattributes /etc/passwd", "f 1"}, ""},
		{"link to submodules", []string{"120000 .gitmodules /etc/passwd", "f 1"}, "git fetch: "},
		{"submodule of a local path", []string{".gitmodules [submodule \"m\"]\n\tpath = m\n\turl = file:///etc\n", "160000 m " + commit}, ""},
		{"submodule with a command", []string{
			".gitmodules [submodule \"m\"]\n\tpath = m\n\turl = https://x/y\n\tupdate = !touch " + file + "\n", "160000 m " + commit,
		}, "git fetch: "},
		{"submodule with an option", []string{
			".gitmodules [submodule \"m\"]\n\tpath = m\n\turl = -u./payload\n", "160000 m " + commit,
		}, "git fetch: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t)
			s.repo()
			s.commit("refs/heads/main", tc.lines...)
			c, err := s.fetch(s.url+"/x.git", Options{})
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v, want one that says %s", err, tc.err)
				}
			} else if err != nil {
				t.Error(err)
			} else if got := list(t, c.Dir); strings.Contains(tc.name, "submodule of") && (!c.Submodules || !slices.Contains(got, "m drwxr-xr-x")) {
				t.Errorf("%v, %v", c, got)
			}
			check()
		})
	}
}

func TestLimits(t *testing.T) {
	nstest.Need(t)
	s := newServer(t)
	s.repo()
	s.commit("refs/heads/main", "a 12345", "d/b 12345", "d/c 12345")
	for name, tc := range map[string]struct {
		text string
		set  func(*limits)
		err  string
	}{
		"entries":               {"x.git", func(l *limits) { l.entries = 3 }, "more than 3 files"},
		"entries that fit":      {"x.git", func(l *limits) { l.entries = 4 }, ""},
		"bytes":                 {"x.git", func(l *limits) { l.bytes = 14 }, "more than 14 bytes"},
		"bytes that fit":        {"x.git", func(l *limits) { l.bytes = 15 }, ""},
		"bytes of subdirectory": {"x.git#:d", func(l *limits) { l.bytes = 10 }, ""},
		"too many there":        {"x.git#:d", func(l *limits) { l.bytes = 9 }, "more than 9 bytes"},
		"objects":               {"x.git", func(l *limits) { l.objects = 100 }, "larger than 100 bytes"},
		"time":                  {"x.git", func(l *limits) { l.time = time.Millisecond }, "not done after 1ms"},
		"time, at once":         {"x.git", func(l *limits) { l.time = time.Nanosecond }, "not done after 1ns"},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{limits: defaultLimits()}
			tc.set(&o.limits)
			_, err := s.fetch(s.url+"/"+tc.text, o)
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("error %v, want one that says %s", err, tc.err)
			}
		})
	}
}

// hang is a server that says nothing.
func hang(t *testing.T, asked chan<- bool) string {
	over := make(chan struct{})
	h := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- true
		select {
		case <-r.Context().Done():
		case <-over:
		}
	}))
	t.Cleanup(func() { close(over); h.Close() })
	return h.URL
}

func TestSilence(t *testing.T) {
	nstest.Need(t)
	o := Options{limits: defaultLimits()}
	o.limits.silence = 200 * time.Millisecond
	s := newServer(t)
	_, err := s.fetch(hang(t, make(chan bool, 9))+"/x.git", o)
	if err == nil || !strings.Contains(err.Error(), "nothing happens for 200ms") {
		t.Errorf("error %v", err)
	}
	ended(t)
}

func TestInterrupted(t *testing.T) {
	nstest.Need(t)
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan bool, 9)
	ref, _, err := Parse(hang(t, asked) + "/x.git")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-asked
		cancel()
	}()

	if _, err := Fetch(ctx, ref, t.TempDir(), Options{Environment: []string{"PATH=" + os.Getenv("PATH")}}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	ended(t)
}

// ended fails if a process of git's is left.
func ended(t *testing.T) {
	t.Helper()
	var left []string
	for range 50 {
		left = nil
		names, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, name := range names {
			if text, err := os.ReadFile(name); err == nil && strings.Contains(string(text), "(git") && !strings.Contains(string(text), ") Z ") && !strings.Contains(string(text), "(git.test)") {
				left = append(left, string(text))
			}
		}
		if left == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}

	t.Errorf("left: %v", left)
}

func TestRedirect(t *testing.T) {
	nstest.Need(t)
	s, other := newServer(t), newServer(t)
	for _, s := range []*server{s, other} {
		s.repo()
		s.commit("refs/heads/main", "f 1")
	}

	var to atomic.Value
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, fmt.Sprint(to.Load())+strings.TrimPrefix(r.URL.Path, "/x.git")+"?"+r.URL.RawQuery, http.StatusFound)
	}))
	t.Cleanup(h.Close)
	to.Store("file://" + s.dir + "/x.git")
	if c, err := s.fetch(h.URL+"/x.git", Options{}); err == nil {
		t.Errorf("a redirect to a file: %v", c)
	}
	to.Store(other.url + "/x.git")
	if _, err := s.fetch(h.URL+"/x.git", Options{}); err != nil || len(other.requests()) == 0 {
		t.Errorf("a redirect: %v", err)
	}
	other.want("")
	_, err := s.fetch(h.URL+"/x.git", Options{Secrets: map[string][]byte{"GIT_AUTH_TOKEN": []byte("hidden")}})
	if err == nil || !strings.Contains(err.Error(), "use the URL that it redirects to") || len(other.requests()) != 0 {
		t.Errorf("a redirect with credentials: %v, %v", err, other.requests())
	}
}
