package git

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
)

func TestCredentials(t *testing.T) {
	nstest.Need(t)
	s := newServer(t)
	s.repo()
	s.commit("refs/heads/main", "f 1")
	host := strings.TrimPrefix(s.url, "http://")
	encoded := func(text string) string { return "basic " + base64.StdEncoding.EncodeToString([]byte(text)) }
	for _, tc := range []struct {
		name, user string
		secrets    map[string]string
		want       string
	}{
		{"none", "", nil, ""},
		{"token", "", map[string]string{"GIT_AUTH_TOKEN": "hidden\n"}, encoded("x-access-token:hidden")},
		{"header", "", map[string]string{"GIT_AUTH_HEADER": "Bearer hidden"}, "Bearer hidden"},
		{"header before token", "", map[string]string{"GIT_AUTH_HEADER": "Bearer hidden", "GIT_AUTH_TOKEN": "x"}, "Bearer hidden"},
		{"host before all", "", map[string]string{"GIT_AUTH_TOKEN." + host: "hidden", "GIT_AUTH_HEADER": "x"}, encoded("x-access-token:hidden")},
		{"another host", "", map[string]string{"GIT_AUTH_TOKEN.example.org": "hidden"}, ""},
		{"of the URL", "u:hidden@", map[string]string{"GIT_AUTH_TOKEN": "x"}, encoded("u:hidden")},
		{"token in the URL", "hidden@", nil, encoded("hidden:")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.want(tc.want)
			secrets := map[string][]byte{}
			for k, v := range tc.secrets {
				secrets[k] = []byte(v)
			}
			if _, err := s.fetch("http://"+tc.user+host+"/x.git", Options{Secrets: secrets}); err != nil {
				t.Fatal(err)
			}
			if sent := s.requests(); slices.ContainsFunc(sent, func(got string) bool { return got != tc.want }) || len(sent) == 0 {
				t.Errorf("sent %q, want %q", sent, tc.want)
			}
		})
	}

	s.want("Basic other")
	_, err := s.fetch("http://u:hidden@"+host+"/x.git", Options{})
	if err == nil || strings.Contains(err.Error(), "hidden") || strings.Contains(err.Error(), encoded("u:hidden")) {
		t.Errorf("wrong credentials: %v", err)
	}
	_, err = s.fetch(s.url+"/x.git", Options{})
	if err == nil || !strings.Contains(err.Error(), "--secret id=GIT_AUTH_TOKEN") {
		t.Errorf("no credentials: %v", err)
	}
	_, err = s.fetch(s.url+"/x.git", Options{Secrets: map[string][]byte{"GIT_AUTH_HEADER": []byte("a\nX: y")}})
	if err == nil || !strings.Contains(err.Error(), "more than one line") {
		t.Errorf("two headers: %v", err)
	}
}

// While git runs nobody can read the credentials in a list of processes.
func TestCredentialsAreNotShown(t *testing.T) {
	nstest.Need(t)
	s := newServer(t)
	s.repo()
	s.commit("refs/heads/main", "f 1")
	encoded := base64.StdEncoding.EncodeToString([]byte("u:hidden"))
	var seen atomic.Int32
	asked := func() {
		names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, name := range names {
			text, _ := os.ReadFile(name)
			if strings.Contains(string(text), "git") {
				seen.Add(1)
			}
			if strings.Contains(string(text), "hidden") || strings.Contains(string(text), encoded) {
				t.Errorf("%s: %q", name, text)
			}
		}
	}

	s.mu.Lock()
	s.asked = asked
	s.mu.Unlock()
	if _, err := s.fetch(strings.Replace(s.url, "://", "://u:hidden@", 1)+"/x.git", Options{}); err != nil || seen.Load() == 0 {
		t.Errorf("%v, %d processes seen", err, seen.Load())
	}
}

func TestNoGit(t *testing.T) {
	s := &server{t: t}
	_, err := s.fetch("https://127.0.0.1/x.git", Options{Environment: []string{"PATH=" + t.TempDir()}})
	if err == nil || !strings.Contains(err.Error(), "install it") {
		t.Errorf("error %v", err)
	}
}
