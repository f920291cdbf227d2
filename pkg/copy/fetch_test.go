package copy

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"codeberg.org/rbuild/rbuild/pkg/internal/nstest"
)

// server serves /file, /t.tar, /flaky (works at the third try), /cut (once), /gone, /down, /loop and /redirect.
func server(t *testing.T) (url string, requests *atomic.Int32) {
	t.Helper()
	requests = new(atomic.Int32)
	archive := makeTar(t, entry{name: "a", data: "A"})
	modified := time.Unix(1e9, 0)
	mux := http.NewServeMux()
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "" || r.Header.Get("Cookie") != "" || r.Header.Get("Authorization") != "" {
			t.Errorf("headers %v", r.Header)
		}
		http.ServeContent(w, r, "file", modified, strings.NewReader("remote"))
	})
	mux.HandleFunc("/t.tar", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := w.Write(archive); err != nil {
			t.Error(err)
		}
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
	mux.HandleFunc("/down", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/redirect/named", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/file", http.StatusFound) })
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, requests
}

func TestAddURL(t *testing.T) {
	nstest.Need(t)
	yes := true
	sum := digest.FromString("remote").String()
	for _, tc := range []struct {
		name, path string
		spec       Spec
		want       []string
		err        string
		requests   int32
	}{
		{name: "into a directory", path: "/file", spec: Spec{Dest: "/a/"}, requests: 1, want: []string{"a directory 0755 0:0", "a/file regular 0600 0:0 remote"}},
		{name: "query", path: "/file?x=/y", spec: Spec{Dest: "/a/"}, requests: 1, want: []string{"a directory 0755 0:0", "a/file regular 0600 0:0 remote"}},
		{name: "renamed", path: "/file", spec: Spec{Dest: "/a"}, requests: 1, want: []string{"a regular 0600 0:0 remote"}},
		{name: "owner and mode", path: "/file", spec: Spec{Dest: "/a/", Chown: &Owner{3, 4}, Chmod: "755"}, requests: 1, want: []string{
			"a directory 0755 3:4", "a/file regular 0755 3:4 remote",
		}},
		{name: "checksum", path: "/file", spec: Spec{Dest: "/a", Checksum: sum}, requests: 1, want: []string{"a regular 0600 0:0 remote"}},
		{name: "sha512", path: "/file", spec: Spec{Dest: "/a", Checksum: digest.SHA512.FromString("remote").String()}, requests: 1, want: []string{"a regular 0600 0:0 remote"}},
		{name: "wrong checksum", path: "/file", spec: Spec{Dest: "/a", Checksum: digest.FromString("x").String()}, requests: 1, err: sum},
		{name: "malformed checksum", path: "/file", spec: Spec{Dest: "/a", Checksum: "sha256:x"}, err: "sha256:x"},
		{name: "redirect", path: "/redirect/named", spec: Spec{Dest: "/a/"}, requests: 2, want: []string{"a directory 0755 0:0", "a/named regular 0600 0:0 remote"}},
		{name: "unpacked", path: "/t.tar", spec: Spec{Dest: "/a/", Unpack: &yes}, requests: 1, want: []string{"a directory 0755 0:0", "a/a regular 0644 0:0 A"}},
		{name: "flaky", path: "/flaky", spec: Spec{Dest: "/a"}, requests: 3, want: []string{"a regular 0600 0:0 at last"}},
		{name: "cut", path: "/cut", spec: Spec{Dest: "/a"}, requests: 2, want: []string{"a regular 0600 0:0 0123456789"}},
		{name: "down", path: "/down", spec: Spec{Dest: "/a"}, requests: 3, err: "500"},
		{name: "gone", path: "/gone", spec: Spec{Dest: "/a"}, requests: 1, err: "404"},
		{name: "redirects without end", path: "/loop", spec: Spec{Dest: "/a"}, err: "redirects"},
		{name: "no name", path: "/", spec: Spec{Dest: "/a/"}, err: "names no file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			url, requests := server(t)
			temp, root := t.TempDir(), t.TempDir()
			tc.spec.Add, tc.spec.Sources, tc.spec.TempDir = true, []string{url + tc.path}, temp
			err := doTree(t, nil, root, tc.spec)
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
			if diff := cmp.Diff(tc.want, list(t, root)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAddURLTimes(t *testing.T) {
	nstest.Need(t)
	url, _ := server(t)
	root := t.TempDir()
	if err := doTree(t, nil, root, Spec{Sources: []string{url + "/file"}, Dest: "/a", Add: true, TempDir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(root + "/a"); err != nil || st.ModTime().Unix() != 1e9 {
		t.Errorf("%v, %v", st.ModTime(), err)
	}
}

func TestURLWithPassword(t *testing.T) {
	_, err := Select(context.Background(), nil, Spec{Sources: []string{"http://user:hidden@127.0.0.1:1/x"}, Dest: "/a", Add: true, TempDir: t.TempDir()})
	if err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("error %v", err)
	}
}
