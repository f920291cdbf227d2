package source

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestTrickle: a body that brings a byte now and then is given up, of whatever status it is.
func TestTrickle(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
		case "/redirect":
			w.Header().Set("Location", "/ok")
			w.WriteHeader(http.StatusFound)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
		for r.Context().Err() == nil {
			if _, err := w.Write([]byte{' '}); err != nil {
				return
			}
			w.(http.Flusher).Flush() //nolint:forcetypeassert // of httptest's server it is one
			time.Sleep(10 * time.Millisecond)
		}
	}))
	defer server.Close()
	for path, want := range map[string]string{
		"/ok": "less than 16384 bytes in 300ms", "/redirect": "less than 16384 bytes in 300ms", "/gone": "404 Not Found",
	} {
		a := &Access{silence: 300 * time.Millisecond}
		f, err := a.File(t.Context(), server.URL+path, t.TempDir(), "")
		if err == nil {
			err = f.Close()
			t.Errorf("%s: it was read (%v)", path, err)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}
