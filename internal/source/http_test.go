package source

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// server serves /file, /flaky (works at the third try), /cut (once), /broken, /endless, /gone, /down, /loop, /redirect/named.
func server(t *testing.T) (url string, requests *atomic.Int32) {
	t.Helper()
	requests = new(atomic.Int32)
	modified := time.Unix(1e9, 0)
	mux := http.NewServeMux()
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "" || r.Header.Get("Cookie") != "" || r.Header.Get("Authorization") != "" {
			t.Errorf("headers %v", r.Header)
		}
		w.Header().Set("Content-Disposition", "attachment; filename=other")
		http.ServeContent(w, r, "file", modified, strings.NewReader("remote"))
	})

	var flaky, cut atomic.Int32
	mux.HandleFunc("/flaky", func(w http.ResponseWriter, _ *http.Request) {
		if flaky.Add(1) < 3 {
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "at last")
	})

	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		fmt.Fprint(w, "0123456789"[:min(10, 5*cut.Add(1))])
	})

	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		fmt.Fprint(w, "01234")
	})

	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})

	mux.HandleFunc("/down", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/redirect/named", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/file", http.StatusFound) })
	mux.HandleFunc("/elsewhere", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
	})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		mux.ServeHTTP(w, r)
	}))

	t.Cleanup(s.Close)

	return s.URL, requests
}

func TestFile(t *testing.T) {
	sum := digest.FromString("remote").String()
	for _, tc := range []struct {
		name, path, checksum string
		file, want           string // its name and content
		err                  string
		requests             int32
	}{
		{name: "plain", path: "/file", requests: 1, file: "file", want: "remote"},
		{name: "query", path: "/file?x=/y", requests: 1, file: "file", want: "remote"},
		{name: "fragment", path: "/file#a/b", requests: 1, file: "file", want: "remote"},
		{name: "checksum", path: "/file", checksum: sum, requests: 1, file: "file", want: "remote"},
		{name: "sha512", path: "/file", checksum: digest.SHA512.FromString("remote").String(), requests: 1, file: "file", want: "remote"},
		{name: "wrong checksum", path: "/file", checksum: digest.FromString("x").String(), requests: 1, err: sum},
		{name: "malformed checksum", path: "/file", checksum: "sha256:x", err: "sha256:x"},
		{name: "commit as checksum", path: "/file", checksum: "0123456789", err: "0123456789"},
		{name: "redirect", path: "/redirect/named", requests: 2, file: "named", want: "remote"},
		{name: "flaky", path: "/flaky", requests: 3, file: "flaky", want: "at last"},
		{name: "cut", path: "/cut", requests: 2, file: "cut", want: "0123456789"},
		{name: "always cut", path: "/broken", requests: 3, err: "unexpected EOF"},
		{name: "endless", path: "/endless", requests: 1, err: "more than 1000000 bytes"},
		{name: "down", path: "/down", requests: 3, err: "500"},
		{name: "gone", path: "/gone", requests: 1, err: "404"},
		{name: "redirects without end", path: "/loop", requests: 10, err: "redirects more than 10 times"},
		{name: "redirect to a file", path: "/elsewhere", requests: 1, err: "redirects to a URL of scheme file"},
		{name: "no name", path: "/", err: "404"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			url, requests := server(t)
			temp := t.TempDir()
			a := &Access{maxDownload: 1e6}
			f, err := a.File(t.Context(), url+tc.path, temp, tc.checksum)
			if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
			if n := requests.Load(); tc.requests != 0 && n != tc.requests {
				t.Errorf("%d requests, want %d", n, tc.requests)
			}
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want one that says %s", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()

			text, err := io.ReadAll(f.File)
			if err != nil || string(text) != tc.want || f.Size != int64(len(text)) || f.Name != tc.file ||
				fmt.Sprintf("sha256:%x", f.Sum) != digest.FromBytes(text).String() {
				t.Errorf("%q, %v: %+v", text, err, f.Remote)
			}

			if (f.Time.Unix() == 1e9) != (tc.want == "remote") {
				t.Errorf("time %v", f.Time)
			}
		})
	}
}

func TestURLWithPassword(t *testing.T) {
	for _, text := range []string{"http://user:hidden@127.0.0.1:1/x", "http://hidden@127.0.0.1:1/x", "http://user:hidden@127.0.0.1:x/x", "http://user:hidden%@h/x"} {
		_, err := new(Access).File(t.Context(), text, t.TempDir(), "")
		if err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("error %v", err)
		}
	}
}

// recorder is a server that redirects each request once, to where to says, and remembers what credentials it was shown.
type recorder struct {
	to string

	mu   sync.Mutex
	seen []string
}

func (s *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, r.Header.Get("Authorization"))
	if s.to != "" && r.URL.Path != "/end" {
		http.Redirect(w, r, s.to, http.StatusFound)
	}
}

func TestAuthorization(t *testing.T) {
	first, second := &recorder{}, &recorder{}
	one, two := httptest.NewServer(first), httptest.NewServer(second)
	t.Cleanup(one.Close)
	t.Cleanup(two.Close)
	for _, tc := range []struct {
		name, url, to string
		secrets       map[string]string
		first, second string // what is sent, for each request
	}{
		{name: "none", url: one.URL, secrets: map[string]string{"HTTP_AUTH_TOKEN_h": "no", "HTTP_AUTH_TOKEN": "no"}, first: "[]"},
		{name: "token", url: one.URL, secrets: map[string]string{"HTTP_AUTH_TOKEN_127.0.0.1": "t\n"}, first: "[Bearer t]"},
		{name: "header", url: one.URL, secrets: map[string]string{"HTTP_AUTH_HEADER_127.0.0.1": "Basic x"}, first: "[Basic x]"},
		{
			name: "token before header", url: one.URL, first: "[Bearer t]",
			secrets: map[string]string{"HTTP_AUTH_HEADER_127.0.0.1": "Basic x", "HTTP_AUTH_TOKEN_127.0.0.1": "t"},
		},
		{
			name: "redirect in place", url: one.URL, to: "/end",
			secrets: map[string]string{"HTTP_AUTH_TOKEN_127.0.0.1": "t"}, first: "[Bearer t Bearer t]",
		},
		{
			name: "redirect to another port", url: one.URL, to: two.URL + "/end",
			secrets: map[string]string{"HTTP_AUTH_TOKEN_127.0.0.1": "t"}, first: "[Bearer t]", second: "[]",
		},
		{
			name: "of the URL", url: strings.Replace(one.URL, "://", "://u:p@", 1), to: two.URL + "/end", first: "[Basic dTpw]", second: "[]",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			first.seen, second.seen, first.to = nil, nil, tc.to
			a := &Access{Secrets: map[string][]byte{}}
			for k, v := range tc.secrets {
				a.Secrets[k] = []byte(v)
			}
			f, err := a.File(t.Context(), tc.url+"/x", t.TempDir(), "")
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			if got := fmt.Sprint(first.seen); got != tc.first {
				t.Errorf("sent %s, want %s", got, tc.first)
			}
			if got := fmt.Sprint(second.seen); got != tc.second && tc.second != "" {
				t.Errorf("sent %s to the other server, want %s", got, tc.second)
			}
		})
	}
}

// What begins with https stays with https; http may become https.
func TestAuthorizerSchemes(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		sent     bool
	}{
		{"https://h/", "https://h/x", true},
		{"https://h/", "http://h/x", false},
		{"http://h/", "https://h/x", true},
		{"https://h/", "https://sub.h/x", false},
		{"https://h/", "https://h:8443/x", false},
		{"https://h/", "https://H/x", true},
	} {
		var got string
		next := roundTrip(func(r *http.Request) { got = r.Header.Get("Authorization") })
		from, err := http.NewRequest(http.MethodGet, tc.from, nil)
		if err != nil {
			t.Fatal(err)
		}
		to, err := http.NewRequest(http.MethodGet, tc.to, nil)
		if err != nil {
			t.Fatal(err)
		}
		to.Header.Set("Authorization", "the client's")
		if _, err := (&authorizer{next, from.URL, "ours"}).RoundTrip(to); err != nil {
			t.Fatal(err)
		}
		if want := map[bool]string{true: "ours"}[tc.sent]; got != want {
			t.Errorf("%s to %s: %q", tc.from, tc.to, got)
		}
	}
}

type roundTrip func(*http.Request)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) {
	f(r)
	return &http.Response{}, nil
}

// archive is a tar of one file.
func archive(t *testing.T, name, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), ModTime: time.Unix(12e8, 0)}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestURLContext(t *testing.T) {
	content := map[string][]byte{
		"/c.tar": archive(t, "f", "F"), "/Dockerfile": []byte("FROM scratch\n"), "/evil.tar": archive(t, "../f", "F"),
		"/large": bytes.Repeat([]byte("x"), maxDockerfile+1),
	}

	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if text, ok := content[r.URL.Path]; ok {
			_, _ = w.Write(text)
			return
		}
		http.NotFound(w, r)
	}))

	t.Cleanup(h.Close)
	a := &Access{}
	c, err := a.Context(t.Context(), h.URL+"/c.tar", t.TempDir(), ContextOptions{})
	if text, err := os.ReadFile(c.Dir + "/f"); err != nil || string(text) != "F" || c.Dockerfile != nil || c.Time.Unix() != 12e8 {
		t.Errorf("%+v, %v", c, err)
	}
	if err != nil {
		t.Error(err)
	}
	c, err = a.Context(t.Context(), h.URL+"/Dockerfile", t.TempDir(), ContextOptions{})
	if err != nil || c.Dir != "" || string(c.Dockerfile) != "FROM scratch\n" {
		t.Errorf("%+v, %v", c, err)
	}
	for _, path := range []string{"/evil.tar", "/large", "/none"} {
		dir := t.TempDir()
		if _, err := a.Context(t.Context(), h.URL+path, dir, ContextOptions{}); err == nil || !strings.Contains(err.Error(), h.URL+path) {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := os.Lstat(dir + "/f"); err == nil {
			t.Errorf("%s: written", path)
		}
	}

	for path, want := range map[string]int64{"/c.tar": 12e8, "/Dockerfile": 0} {
		got, err := a.Time(t.Context(), h.URL+path, t.TempDir(), "")
		if err != nil || (got == nil) != (want == 0) || got != nil && got.Unix() != want {
			t.Errorf("%s: time %v, %v", path, got, err)
		}
	}

	if text, err := a.Text(t.Context(), h.URL+"/Dockerfile", t.TempDir()); err != nil || string(text) != "FROM scratch\n" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestIsContext(t *testing.T) {
	for text, want := range map[string]bool{
		".": false, "dir": false, "-": false, "https://h/x": true, "http://h/x.tar": true, "https://h/x.git#v": true, "git@h:x": true,
		"github.com/a/b": true, "ssh://h/x": true, "file:///x": false, "ftp://h/x": false,
	} {
		if IsContext(text) != want {
			t.Errorf("%s: %v", text, !want)
		}
	}
}
